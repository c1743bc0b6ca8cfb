"""The draw of hard negatives for image-text matching, by the contrastive similarities of a batch (ALBEF, 3.2)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tcl.losses.itm import draw_negatives, negative_weights


@dataclass
class Negatives:
    """The draw of hard negatives in a batch, each [B]; `valid_*` bool is False where a row had none to draw.

    An index is that of a row of the first part of `TCLTargets.candidates`: in the batch of this process, or of all.
    """

    images: Tensor
    """For each text, the index of an image that is not its own."""
    texts: Tensor
    """For each image, the index of a text that is not its own."""
    valid_images: Tensor
    valid_texts: Tensor


@torch.no_grad()
def draw_batch_negatives(
    i2t_logits: Tensor, t2i_logits: Tensor, first: int = 0, ids: Tensor | None = None
) -> Negatives:
    """Hard negatives for B samples among the C of the batch, logits [B, C]; sample b itself is column first + b.

    ids [C]: samples with equal ones are never each other's negatives.
    """
    B, C = i2t_logits.shape
    ids = torch.arange(C, device=i2t_logits.device) if ids is None else ids
    allowed = ids[first : first + B, None] != ids[None, :]
    texts, valid_texts = draw_negatives(negative_weights(i2t_logits, allowed))
    images, valid_images = draw_negatives(negative_weights(t2i_logits, allowed))
    return Negatives(images, texts, valid_images, valid_texts)
