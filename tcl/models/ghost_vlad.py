"""GhostVLAD (Zhong et al. 2018; HCQ, arXiv 2202.03384, section 3.3): tokens to a few vectors, one for each cluster.

With assignments over L clusters and G ghosts, which take tokens that belong nowhere, and centres c_l,

    a_nl = softmax over l <= L + G of BN(x_n W_c)        r_l = sum over n of a_nl (x_n - c_l), l <= L

The published code takes the ghosts off before the softmax, where they do nothing, and lets padding count.
"""

import torch
from torch import Tensor, nn

from tcl.models.batch_norm import BatchNorm
from tcl.models.unit_rows import unit_or_zero


class GhostVLAD(nn.Module):
    """Tokens [B, N, dim] and which of them are there, bool [B, N] -> fp32 [B, clusters, dim], rows of length 1.

    A sample without any token gets zeros, and gives no gradient. Statistics of the batch norm are those of the tokens
    that are there, of all processes.
    """

    def __init__(self, dim: int, clusters: int, ghosts: int):
        super().__init__()
        self.assign = nn.Linear(dim, clusters + ghosts, bias=False)
        self.batch_norm = BatchNorm(clusters + ghosts)
        self.centres = nn.Parameter(torch.empty(clusters, dim))
        for weight in (self.assign.weight, self.centres):
            nn.init.normal_(weight, std=dim**-0.5)

    def forward(self, tokens: Tensor, there: Tensor) -> Tensor:
        """As the class says."""
        return unit_or_zero(self.residuals(tokens, self.assignments(tokens, there)))

    def assignments(self, tokens: Tensor, there: Tensor) -> Tensor:
        """fp32 [B, N, clusters + ghosts], the ghosts last; 0 at tokens that are not there."""
        weights = self.batch_norm(self.assign(tokens), there).softmax(dim=-1)
        return weights.masked_fill(~there[..., None], 0.0)

    def residuals(self, tokens: Tensor, assignments: Tensor) -> Tensor:
        """r_l, fp32 [B, clusters, dim]."""
        with torch.autocast(tokens.device.type, enabled=False):
            to_clusters = assignments[..., : len(self.centres)]
            sums = to_clusters.transpose(1, 2) @ tokens.float()
            return sums - to_clusters.sum(dim=1)[..., None] * self.centres.float()
