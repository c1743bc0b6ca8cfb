"""Contrast within the batch by softmax: an image finds its text, a text its image (CLIP, Radford et al. 2021)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def pair_softmax(features: Tensor, candidates: Tensor, right: Tensor, counts: Tensor, temperature: Tensor) -> Tensor:
    """Cross-entropy of one modality's features against the other's candidates; mean over the rows with a right one.

    features [B, D] and candidates [C, D], unit rows, both with gradient; right bool [B, C], of which all count alike;
    counts bool [C]: candidates that are there; temperature scalar > 0. No row with a right candidate costs 0.
    """
    logits = (features @ candidates.T / temperature).masked_fill(~counts, -torch.inf)
    right = (right & counts).float()
    sums = right.sum(dim=1)
    rows = sums > 0
    targets = right / sums.clamp(min=1)[:, None]
    log_probabilities = F.log_softmax(logits, dim=1).masked_fill(~counts, 0.0)
    loss_B = -(targets * log_probabilities).sum(dim=1)
    return torch.where(rows, loss_B, 0.0).sum() / rows.sum().clamp(min=1)
