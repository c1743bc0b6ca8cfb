"""What CMA and IMC have in common: cross-entropy over the batch and the queue, without a matrix of that size.

With logits s_c = feature . candidate_c / temperature and targets y_c that sum to 1,

    CE = log sum_c e^{s_c} - sum_c y_c s_c = log_partition - feature . (sum_c y_c candidate_c) / temperature:

beside the partition it needs only the expected candidate under y, one vector per sample. The partition takes the
candidates some at a time, and computes their logits again in the backward pass. Candidates come in parts, those of the
batch and the queue, so that the queue need not be copied.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

Candidates = tuple[Tensor, ...]
"""Parts [C_i, D] without gradient, C candidates in all; they must not change before the backward pass."""

CHUNK = 4096
"""Candidates at a time: the logits of 64 samples are 1 MiB, which stays in a core's cache."""


def log_partition(features: Tensor, candidates: Candidates, temperature: Tensor) -> Tensor:
    """log sum over c of e^{feature . candidate_c / temperature}, memory O(B CHUNK).

    features [B, D], temperature scalar > 0 -> [B].
    """
    return _LogPartition.apply(features / temperature, *candidates)


@torch.no_grad()
def softmax_mean(features: Tensor, candidates: Candidates, temperature: Tensor) -> Tensor:
    """The mean candidate under softmax(feature . candidate / temperature): shapes as above -> [B, D]."""
    scaled = features / temperature
    partition = _LogPartition.apply(scaled, *candidates)
    return sum(logits.sub_(partition[:, None]).exp_() @ chunk for logits, chunk in _logits(scaled, candidates))


def weighted_sum(weights: Tensor, candidates: Candidates) -> Tensor:
    """Weights [B, C] times candidates -> [B, D]."""
    parts = weights.split([len(part) for part in candidates], dim=1)
    return sum(weight @ part for weight, part in zip(parts, candidates, strict=True))


def contrast(features: Tensor, expected: Tensor, candidates: Candidates, temperature: Tensor) -> Tensor:
    """The cross-entropy above, mean over B: features and expected candidates [B, D]."""
    partition = log_partition(features, candidates, temperature)
    return (partition - (features * expected).sum(dim=1) / temperature).mean()


def _logits(scaled: Tensor, candidates: Candidates) -> Iterator[tuple[Tensor, Tensor]]:
    for part in candidates:
        for chunk in part.split(CHUNK):
            yield scaled @ chunk.T, chunk


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scaled: Tensor, *candidates: Tensor) -> Tensor:
        partition = torch.stack([logits.logsumexp(dim=1) for logits, _ in _logits(scaled, candidates)]).logsumexp(dim=0)
        ctx.save_for_backward(scaled, partition, *candidates)
        return partition

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scaled, partition, *candidates = ctx.saved_tensors
        total = torch.zeros_like(scaled)
        for logits, chunk in _logits(scaled, candidates):
            total.addmm_(logits.sub_(partition[:, None]).exp_(), chunk)
        return total.mul_(gradient[:, None]), *(None for _ in candidates)
