"""Second stage of retrieval: the ITM score of image-text pairs, many per image (ALBEF section 4).

What the plain loop over queries computes again and again is computed once here: an image's keys and values in every
fusion layer once per image, however many texts are paired with it and whichever direction asked; the first layer's
self-attention once per text, since no image has a part in it; the last layer for [CLS] alone. Texts of about equal
length go together, so there is little padding, and the texts of an image share its keys and values without copies.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from tcl.models.encoders import Encoders
from tcl.models.fusion_encoder import FusionEncoder
from tcl.search.text_passes import split_by_tokens


class TextStates:
    """What the fusion encoder needs of C texts, without padding: their states after its first self-attention."""

    def __init__(self, lengths: Tensor, width: int, dtype: torch.dtype):
        """lengths [C] int64 in tokens, [CLS] included."""
        self.lengths = lengths
        self.starts = lengths.cumsum(0) - lengths
        self.states = torch.empty(int(lengths.sum()), width, dtype=dtype, device=lengths.device)

    def put(self, texts: Tensor, states: Tensor) -> None:
        """states [R, L, width] of texts [R] (indices), L >= their lengths."""
        rows, present = self._rows(texts, states.shape[1])
        self.states[rows[present]] = states[present].to(self.states.dtype)

    def get(self, texts: Tensor) -> tuple[Tensor, Tensor]:
        """States [R, L, width] of texts [R], padded to the longest, and their mask bool [R, L]."""
        rows, present = self._rows(texts, int(self.lengths[texts].max()))
        return self.states[rows], present

    def _rows(self, texts: Tensor, length: int) -> tuple[Tensor, Tensor]:
        places = torch.arange(length, device=texts.device)
        present = places < self.lengths[texts, None]
        return self.starts[texts, None] + places * present, present


def read_texts(
    encoders: Encoders,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    pass_tokens: int,
    autocast: Callable[[], AbstractContextManager],
) -> tuple[Tensor, TextStates]:
    """Embeddings [C, embed_dim] and states of C texts, ids and mask [C, L], in passes of about pass_tokens tokens."""
    states, features = None, None
    text_encoder, fusion = encoders.text_encoder, encoders.fusion_encoder
    for texts, tokens, read in _passes(text_encoder, fusion, input_ids, attention_mask, pass_tokens, autocast):
        with autocast():
            projected = encoders.embed_texts(tokens, attention_mask[texts, : tokens.shape[1]])
        if states is None:
            states = TextStates(attention_mask.sum(dim=1), read.shape[2], read.dtype)
            features = projected.new_empty(len(input_ids), projected.shape[1])
        states.put(texts, read)
        features[texts] = projected
    return features, states


def read_states(
    text_encoder: Callable[[Tensor, Tensor], Tensor],
    fusion: FusionEncoder,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    pass_tokens: int,
    autocast: Callable[[], AbstractContextManager],
) -> TextStates:
    """As `read_texts`, for matching alone. text_encoder: ids and mask [R, L] -> tokens [R, L, width]."""
    states = None
    for texts, _, read in _passes(text_encoder, fusion, input_ids, attention_mask, pass_tokens, autocast):
        if states is None:
            states = TextStates(attention_mask.sum(dim=1), read.shape[2], read.dtype)
        states.put(texts, read)
    return states


def _passes(
    text_encoder: Callable[[Tensor, Tensor], Tensor],
    fusion: FusionEncoder,
    input_ids: Tensor,
    attention_mask: Tensor,
    pass_tokens: int,
    autocast: Callable[[], AbstractContextManager],
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of each pass of R texts: which they are [R], their tokens, and what the fusion encoder made of these."""
    lengths = attention_mask.sum(dim=1)
    for texts in split_by_tokens(lengths.argsort(stable=True), lengths, pass_tokens):
        longest = int(lengths[texts].max())
        ids, mask = input_ids[texts, :longest], attention_mask[texts, :longest]
        with autocast():
            tokens = text_encoder(ids, mask)
            read = fusion.read_texts(tokens, mask)
        yield texts, tokens, read


def image_logits(
    fusion: FusionEncoder,
    itm_head: nn.Module,
    image_tokens: Tensor,
    texts: Tensor,
    states: TextStates,
    pass_tokens: int,
) -> Tensor:
    """ITM logits [R, 2], "no match" and "match", of one image [N, image width] with texts [R] (indices)."""
    keys_values = fusion.image_keys_values(image_tokens[None])
    order = states.lengths[texts].argsort(stable=True)
    logits = torch.empty(len(texts), 2, device=texts.device)
    for some in split_by_tokens(order, states.lengths[texts], pass_tokens):
        read, mask = states.get(texts[some])
        logits[some] = itm_logits(itm_head, fusion.match(read, mask, keys_values))
    return logits


def images_logits(
    fusion: FusionEncoder,
    itm_head: nn.Module,
    image_tokens: Tensor,
    texts_of_image: Sequence[Tensor],
    states: TextStates,
    pass_tokens: int,
) -> list[Tensor]:
    """As `image_logits`, of I images [I, N, image width] with their own texts each: [R, 2] for each image.

    Images with as many texts go together, in passes of at most pass_tokens tokens of images, and of texts.
    """
    logits: list[Tensor | None] = [None] * len(texts_of_image)
    by_count: dict[int, list[int]] = {}
    for i, texts in enumerate(texts_of_image):
        by_count.setdefault(len(texts), []).append(i)
    for count, images in by_count.items():
        longest = int(torch.stack([states.lengths[texts_of_image[i]].max() for i in images]).max())
        together = pass_tokens // max(count * longest, image_tokens.shape[1])
        if together < 2:
            for i in images:
                logits[i] = image_logits(fusion, itm_head, image_tokens[i], texts_of_image[i], states, pass_tokens)
            continue
        for start in range(0, len(images), together):
            some = images[start : start + together]
            read, mask = states.get(torch.cat([texts_of_image[i] for i in some]))
            found = itm_logits(itm_head, fusion.match(read, mask, fusion.image_keys_values(image_tokens[some])))
            for i, own in zip(some, found.split(count), strict=True):
                logits[i] = own
    return logits


def itm_logits(itm_head: nn.Module, states: Tensor) -> Tensor:
    """States of [CLS] [R, width] -> ITM logits [R, 2], fp32 under autocast too: in bf16 good candidates tie."""
    with torch.autocast(states.device.type, enabled=False):
        return itm_head(states.float())
