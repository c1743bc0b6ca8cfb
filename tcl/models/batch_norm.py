"""Batch norm over the rows of all processes, of which some may not count.

torch's own synchronises on GPUs only, and knows no mask. Two processes with B rows each normalise as one with 2 B.
"""

import torch
from torch import Tensor, nn

from tcl.models.global_batch import gather_rows_with_gradient

EPS, MOMENTUM = 1e-5, 0.1


class BatchNorm(nn.Module):
    """[..., channels] -> the same shape, fp32. Running statistics follow those of training batches, the variance
    without bias; every process has the same. affine: a learned weight and bias for each channel."""

    def __init__(self, channels: int, affine: bool = True):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, rows: Tensor, counts: Tensor | None = None) -> Tensor:
        """counts: bool [...], rows that make the statistics in training; all of them where it is None."""
        with torch.autocast(rows.device.type, enabled=False):
            rows = rows.float()
            if self.training:
                mean, variance, count = batch_statistics(rows, counts)
                self._follow(mean.detach(), variance.detach(), count)
            else:
                mean, variance = self.running_mean.float(), self.running_var.float()
            normalised = (rows - mean) * torch.rsqrt(variance + EPS)
            return normalised if self.weight is None else normalised * self.weight.float() + self.bias.float()

    def _follow(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Nothing, where no row counted."""
        share = MOMENTUM * (count > 0)
        unbiased = variance * count / (count - 1).clamp(min=1)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share.to(self.running_mean.dtype))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share.to(self.running_var.dtype))


def batch_statistics(rows: Tensor, counts: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance [channels] of the rows [..., channels] of all processes, and how many there are.

    counts: bool [...], the rows that do; of none the mean and the variance are 0.
    """
    flat = rows.flatten(0, -2)
    own = torch.ones(len(flat), 1, device=rows.device) if counts is None else counts.flatten()[:, None].float()
    sums = _sum_of_all(torch.cat([(own * flat).sum(dim=0), own.sum(dim=0)]))
    count = sums[-1].detach()
    mean = sums[:-1] / count.clamp(min=1)
    variance = _sum_of_all((own * (flat - mean).square()).sum(dim=0)) / count.clamp(min=1)
    return mean, variance, count


def _sum_of_all(own: Tensor) -> Tensor:
    return gather_rows_with_gradient(own[None]).sum(dim=0)
