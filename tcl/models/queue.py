"""A ring of momentum features: extra negatives from the batches before (MoCo, He et al. 2020)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FeatureQueue(nn.Module):
    """`features` [size, embed_dim], unit rows; `pointer` is the oldest row, replaced next.

    Starts as random unit vectors drawn from `seed`, so that every process starts with the same rows.
    """

    def __init__(self, size: int, embed_dim: int, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("features", F.normalize(torch.randn(size, embed_dim, generator=generator), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def enqueue(self, features: Tensor) -> None:
        """Write `features` [B, embed_dim] over the oldest rows, wrapping; of more than `size` rows the last stay."""
        size = len(self.features)
        skipped = max(len(features) - size, 0)
        rows = (self.pointer + torch.arange(skipped, len(features), device=features.device)) % size
        self.features.index_copy_(0, rows, features[skipped:].to(self.features.dtype))
        self.pointer.copy_((self.pointer + len(features)) % size)
