"""A ring of momentum features: extra negatives from the batches before (MoCo, He et al. 2020)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NO_ID = -100
"""No sample has it: ids are >= 0."""


class FeatureQueue(nn.Module):
    """`features` [size, embed_dim], unit rows; `pointer` is the oldest row, replaced next.

    Starts as random unit vectors drawn from `seed`, so that every process starts with the same rows.
    """

    def __init__(self, size: int, embed_dim: int, seed: int):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("features", F.normalize(torch.randn(size, embed_dim, generator=generator), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def enqueue(self, features: Tensor) -> None:
        """Write `features` [B, embed_dim] over the oldest rows, wrapping; of more than `size` rows the last stay."""
        _write_over_oldest(self.features, self.pointer, features)


class IdQueue(nn.Module):
    """`ids` [size] int64 of the features in the queues beside it; NO_ID where those are still random."""

    def __init__(self, size: int):
        super().__init__()
        self.register_buffer("ids", torch.full((size,), NO_ID))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def enqueue(self, ids: Tensor) -> None:
        """Write `ids` [B] over the oldest, as FeatureQueue does."""
        _write_over_oldest(self.ids, self.pointer, ids)


@torch.no_grad()
def _write_over_oldest(ring: Tensor, pointer: Tensor, rows: Tensor) -> None:
    size = len(ring)
    skipped = max(len(rows) - size, 0)
    places = (pointer + torch.arange(skipped, len(rows), device=rows.device)) % size
    ring.index_copy_(0, places, rows[skipped:].to(ring.dtype))
    pointer.copy_((pointer + len(rows)) % size)
