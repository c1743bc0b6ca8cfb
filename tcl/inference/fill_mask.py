"""The words that may stand where a text has [MASK], given the image and the other words."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tcl.data.texts.captions import clean_caption
from tcl.errors import InputError
from tcl.inference.hardware import Hardware
from tcl.inference.texts import MAX_WORDS, list_texts
from tcl.models.encoders import Encoders

MASK = "[MASK]"
"""Whatever the tokenizer's own mask token is called."""


@dataclass(frozen=True)
class Guess:
    """One token of the vocabulary."""

    word: str
    """As people write it; WordPiece's pieces within a word keep their mark ("##ing")."""
    probability: float
    """0 to 1, among the whole vocabulary."""


def tokenize_masked(text: str, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> tuple[Tensor, Tensor]:
    """A text with M [MASK]s -> ids [1, L] and where the masks are in them [M], both int64.

    InputError: no [MASK], more than max_tokens tokens, and as `list_texts`.
    """
    list_texts([text], "text")
    if MASK not in text:
        raise InputError(f"text: {text!r:.100} has no {MASK}; write it where a word is to be filled in")
    ids, masks = [tokenizer.cls_token_id], []
    for i, part in enumerate(text.split(MASK)):
        cleaned = clean_caption(part, MAX_WORDS)
        if i > 0:
            masks.append(len(ids))
            ids.append(tokenizer.mask_token_id)
            cleaned = f" {cleaned}" if cleaned else ""  # to some tokenizers a word after another is a different token
        if cleaned:
            ids += tokenizer(cleaned, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    if len(ids) > max_tokens:
        raise InputError(f"text: {len(ids):,} tokens, but this model reads {max_tokens}; give a shorter text")
    return torch.tensor([ids]), torch.tensor(masks)


@torch.no_grad()
def fill_masks(
    encoders: Encoders, image: Iterable[Tensor], input_ids: Tensor, masks: Tensor, k: int, hardware: Hardware
) -> tuple[Tensor, Tensor]:
    """One image (a batch of its tokens [1, N, width]), ids [1, L], masks [M] -> the k most probable tokens of each
    mask, best first: ids [M, k] and probabilities [M, k], on the host. Masks do not know of each other's guesses.

    InputError: k outside 1 .. vocabulary.
    """
    vocabulary = encoders.text_encoder.word_embeddings.num_embeddings
    if not 1 <= k <= vocabulary:
        raise InputError(f"k: {k} is not possible; accepted: 1 to {vocabulary}, the vocabulary")
    ids = input_ids.to(hardware.device)
    present = torch.ones_like(ids)
    (tokens,) = image
    with hardware.autocast():
        images = encoders.fusion_encoder.image_keys_values(tokens)
        fused = encoders.fusion_encoder(encoders.text_encoder(ids, present), present, images)
        logits = encoders.predict_tokens(fused, masks.to(hardware.device))
    best = logits.float().softmax(dim=1).topk(k, dim=1)
    return best.indices.cpu(), best.values.cpu()
