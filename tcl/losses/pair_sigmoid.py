"""Contrast within the batch by sigmoid: every pair is told right or wrong on its own (SigLIP, Zhai et al. 2023)."""

from torch import Tensor
from torch.nn import functional as F

from tcl.losses.learned import LossParameter

BIAS = LossParameter()
"""What the logits of all pairs start from: wrong pairs are B - 1 times as many as right ones."""


def pair_sigmoid(
    features: Tensor, candidates: Tensor, right: Tensor, counts: Tensor, temperature: Tensor, bias: Tensor
) -> Tensor:
    """-log sigmoid(z (f . c / temperature + bias)), z 1 for right and -1 for wrong pairs (SigLIP, algorithm 1).

    The sum over the pairs of a row, mean over the rows with a right one.

    features [B, D] and candidates [C, D], unit rows, both with gradient; right bool [B, C]; counts bool [C]: candidates
    that are there; temperature scalar > 0, bias scalar. No row with a right candidate costs 0.
    """
    logits = features @ candidates.T / temperature + bias
    right = right & counts
    rows = right.any(dim=1)
    loss_BxC = -F.logsigmoid(logits * (2 * right.float() - 1))
    counted = loss_BxC.masked_fill(~(rows[:, None] & counts), 0.0)
    return counted.sum() / rows.sum().clamp(min=1)
