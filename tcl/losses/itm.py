"""Image-text matching: does this text belong to this image? With one hard negative per image and per text.

TCL section 3.4, ALBEF section 3.2: negatives are drawn from the batch in proportion to their contrastive similarity.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

ACCURACY_PRIOR = 2 / 3
"""Accuracy of always answering "no match": one pair in three matches."""

LEFT_OUT = -100
"""Label of a pair that does not count: its row had no allowed negative."""


def negative_weights(logits: Tensor, allowed: Tensor) -> Tensor:
    """Sampling weights of in-batch negatives: softmax of each row over its allowed columns, in fp32.

    logits [B, C], allowed bool [B, C] -> [B, C]. Masking comes before the softmax, so a dominant positive cannot
    push the others to zero; should a row come out all zero or not finite all the same, its allowed columns share the
    weight evenly. A row where nothing is allowed is all zero.
    """
    weights = logits.float().masked_fill(~allowed, -torch.inf).softmax(dim=1).nan_to_num(nan=0.0)
    empty = weights.sum(dim=1, keepdim=True) == 0
    return torch.where(empty, allowed.float(), weights)


def draw_negatives(weights: Tensor) -> tuple[Tensor, Tensor]:
    """One column per row in proportion to `weights` [B, C] >= 0 -> (index [B], valid bool [B]).

    A row without any weight is not valid (its index is 0). The race of exponential clocks is what torch.multinomial
    does inside, without its check that stops the device until the host has read it.
    """
    clocks = torch.empty_like(weights).exponential_()
    return (weights / clocks).argmax(dim=1), (weights > 0).any(dim=1)


def matching_labels(batch: int, valid_images: Tensor, valid_texts: Tensor) -> Tensor:
    """Labels [3B] for rows of B positives, B (text, negative image), B (negative text, image): 1 match, 0 none."""
    left_out = torch.full_like(valid_images, LEFT_OUT, dtype=torch.long)
    none = torch.zeros_like(left_out)
    return torch.cat(
        [
            torch.ones(batch, dtype=torch.long, device=valid_images.device),
            torch.where(valid_images, none, left_out),
            torch.where(valid_texts, none, left_out),
        ]
    )


def image_text_matching(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Two-way cross-entropy and accuracy over the rows that count. logits [R, 2], labels [R] -> (loss, accuracy)."""
    counts = labels != LEFT_OUT
    accuracy = ((logits.argmax(dim=1) == labels) & counts).sum() / counts.sum().clamp(min=1)
    return F.cross_entropy(logits.float(), labels, ignore_index=LEFT_OUT), accuracy
