"""Batch norm whose running statistics are right from the first batch on, as haiku's are, and with them MMV's."""

import torch
from torch import Tensor

from tcl.models.batch_norm import MOMENTUM, BatchNorm


class CorrectedBatchNorm(BatchNorm):
    """As `BatchNorm`; running statistics are averages of the n batches so far with weights 0.9^age that sum to 1, where
    torch's begin at 0 and 1 and keep a share 0.9^n of that; the variance is the biased one."""

    def __init__(self, channels: int):
        super().__init__(channels)
        self.register_buffer("batches", torch.zeros((), dtype=torch.float32))

    def _follow(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Nothing, where no row counted."""
        counted = (count > 0).to(self.batches.dtype)
        self.batches += counted
        share = counted * MOMENTUM / (1 - (1 - MOMENTUM) ** self.batches.clamp(min=1))
        for running, seen in ((self.running_mean, mean), (self.running_var, variance)):
            running.lerp_(seen.to(running.dtype), share.to(running.dtype))
