"""Gated embedding unit (Miech et al. 2018, section 3.1; HCQ, arXiv 2202.03384, section 3.2)."""

import torch
from torch import Tensor, nn

from tcl.models.batch_norm import BatchNorm
from tcl.models.unit_rows import unit_or_zero


class GatedUnit(nn.Module):
    """y = W_1 x + b_1 -> y * sigmoid(BN(W_2 y + b_2)), of length 1: [B, width] -> [B, dim], fp32."""

    def __init__(self, width: int, dim: int):
        super().__init__()
        self.project = nn.Linear(width, dim)
        self.gate = nn.Linear(dim, dim)
        self.batch_norm = BatchNorm(dim)

    def forward(self, vectors: Tensor) -> Tensor:
        """As the class says."""
        projected = self.project(vectors)
        opened = torch.sigmoid(self.batch_norm(self.gate(projected)))
        return unit_or_zero(projected.float() * opened)
