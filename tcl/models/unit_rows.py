"""Vectors of length 1, for what may have no length."""

from torch import Tensor


def unit_or_zero(vectors: Tensor) -> Tensor:
    """[..., D] -> the same directions, of length 1; zero where there is none, with gradients that stay finite there."""
    lengths = vectors.norm(dim=-1, keepdim=True)
    return vectors / lengths.masked_fill(lengths == 0, 1.0)
