"""Intra-modal contrast: a sample finds its own other view among the batch and the queue of the same modality.

TCL section 3.2 (equations 4 and 5). The other view comes from the teacher: another augmentation of the image, another
dropout of the text.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def intra_modal_contrast(logits: Tensor, first: int = 0, positives: Tensor | None = None) -> Tensor:
    """InfoNCE of `logits` [B, C] (similarity over temperature), mean over B.

    positives [B, C], rows sum to 1; without them the one positive of row b is column first + b.
    """
    if positives is None:
        positives = torch.arange(first, first + len(logits), device=logits.device)
    return F.cross_entropy(logits, positives)
