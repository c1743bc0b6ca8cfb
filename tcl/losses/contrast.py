"""What CMA and IMC have in common: cross-entropy over the batch and the queue, without a matrix of that size.

With logits s_c = feature . candidate_c / temperature and targets y_c that sum to 1,

    CE = log sum_c e^{s_c} - sum_c y_c s_c = log_partition - feature . (sum_c y_c candidate_c) / temperature:

beside the partition it needs only the expected candidate under y, one vector per sample. The partition takes the
candidates some at a time, and with it their mean under the softmax: that is its gradient, so the backward pass has
nothing left to do. Candidates come in parts, those of the batch and the queue, so that the queue need not be copied.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tcl.losses.learned import LossParameter

TEMPERATURE = LossParameter(0.001, 0.5)
"""What all contrastive losses divide similarities by."""

Candidates = tuple[Tensor, ...]
"""Parts [C_i, D] without gradient, C candidates in all."""

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
    return _partition_and_mean(features / temperature, candidates)[1]


def weighted_sum(weights: Tensor, candidates: Candidates) -> Tensor:
    """Weights [B, C] times candidates -> [B, D]."""
    parts = weights.split([len(part) for part in candidates], dim=1)
    return sum(weight @ part for weight, part in zip(parts, candidates, strict=True))


def contrast(features: Tensor, expected: Tensor, candidates: Candidates, temperature: Tensor) -> Tensor:
    """The cross-entropy above, mean over B: features and expected candidates [B, D]."""
    partition = log_partition(features, candidates, temperature)
    return (partition - (features * expected).sum(dim=1) / temperature).mean()


def _partition_and_mean(scaled: Tensor, candidates: Candidates) -> tuple[Tensor, Tensor]:
    """The log-partition [B] and the mean candidate [B, D], in one pass over the candidates.

    Sums of e^{logit} are kept relative to the highest logit so far, and shrunk when a higher one comes (Milakov and
    Gimelshein 2018, "Online normalizer calculation for softmax").
    """
    highest = scaled.new_full((len(scaled), 1), -torch.inf)
    partition, mean = torch.zeros_like(highest), torch.zeros_like(scaled)
    for chunk in (chunk for part in candidates for chunk in part.split(CHUNK)):
        logits = scaled @ chunk.T
        higher = torch.maximum(highest, logits.amax(dim=1, keepdim=True))
        shrink = (highest - higher).exp_()
        weights = logits.sub_(higher).exp_()
        partition.mul_(shrink).add_(weights.sum(dim=1, keepdim=True))
        mean.mul_(shrink).addmm_(weights, chunk)
        highest = higher
    return (highest + partition.log()).squeeze(1), mean.div_(partition)


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(ctx, scaled: Tensor, *candidates: Tensor) -> Tensor:
        partition, mean = _partition_and_mean(scaled, candidates)
        ctx.save_for_backward(mean)
        return partition

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (mean,) = ctx.saved_tensors
        return mean * gradient[:, None], *(None for _ in ctx.needs_input_grad[1:])
