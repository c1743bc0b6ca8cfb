"""Second stage of retrieval: the ITM score of image-text pairs, many per image (ALBEF section 4).

What the plain loop over queries computes again and again is computed once here: an image's keys and values in every
fusion layer once per image, however many texts are paired with it and whichever direction asked; the first layer's
self-attention once per text, since no image has a part in it; the last layer for [CLS] alone. Texts of about equal
length go together, so there is little padding, and the texts of an image share its keys and values without copies.
"""

from collections.abc import Callable
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
    """Embeddings [C, embedding_size] and states of C texts, ids and mask [C, L], in passes of about pass_tokens."""
    lengths = attention_mask.sum(dim=1)
    states, features = None, None
    for texts in split_by_tokens(lengths.argsort(stable=True), lengths, pass_tokens):
        longest = int(lengths[texts].max())
        ids, mask = input_ids[texts, :longest], attention_mask[texts, :longest]
        with autocast():
            tokens = encoders.text_encoder(ids, mask)
            projected = encoders.embed_texts(tokens, mask)
            read = encoders.fusion_encoder.read_texts(tokens, mask)
        if states is None:
            states = TextStates(lengths, read.shape[2], read.dtype)
            features = projected.new_empty(len(input_ids), projected.shape[1])
        states.put(texts, read)
        features[texts] = projected
    return features, states


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


def itm_logits(itm_head: nn.Module, states: Tensor) -> Tensor:
    """States of [CLS] [R, width] -> ITM logits [R, 2], fp32 under autocast too: in bf16 good candidates tie."""
    with torch.autocast(states.device.type, enabled=False):
        return itm_head(states.float())
