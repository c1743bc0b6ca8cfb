"""What retrieval finds where the order is drawn: beside it recalls say something."""

import torch
from torch import Tensor


def found_by_chance(right: Tensor, candidates: int) -> Tensor:
    """Share of the queries that meet a right answer among the first r of `candidates` (C) in random order: fp64 [C], of
    r = 1 ... C.

    right: [Q] int64, right answers of each query, 1 to C. With m of them the first r hold none with probability
    (C - m choose r) / (C choose r).
    """
    numbers, queries = right.unique(return_counts=True)
    drawn = torch.arange(candidates, dtype=torch.float64)
    missed = ((candidates - numbers[:, None] - drawn).clamp(min=0) / (candidates - drawn)).cumprod(dim=1)
    return ((1 - missed) * queries[:, None] / len(right)).sum(dim=0)
