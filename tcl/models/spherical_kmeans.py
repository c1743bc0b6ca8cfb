"""Spherical k-means (Dhillon and Modha 2001) of the parts of vectors: how codebooks that get no gradient are fitted."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tcl.errors import InputError
from tcl.models.unit_rows import unit_or_zero


@torch.no_grad()
def fit_codebooks(parts: Tensor, codebooks: Tensor, rounds: int = 10) -> Tensor:
    """Parts [N, M, d] of length 1 or 0, which belong nowhere, and codebooks [M, K, d] of length 1 to begin with -> the
    codebooks after at most `rounds` (>= 1) rounds.

    A codeword that nothing is nearest to takes the place of the vector that is worst off, one each, instead of dying as
    in the published code. The same input gives the same codebooks. InputError: fewer vectors than codewords.
    """
    if len(parts) < codebooks.shape[1]:
        raise InputError(
            f"quantise.codewords: {codebooks.shape[1]} to fit to {len(parts):,} vectors; give at most as many "
            f"codewords as vectors"
        )
    fitted = [_fit(own, book, rounds) for own, book in zip(parts.float().unbind(1), codebooks.float(), strict=True)]
    return torch.stack(fitted)


def _fit(vectors: Tensor, codewords: Tensor, rounds: int) -> Tensor:
    """Of one part: vectors [N, d] and codewords [K, d]."""
    vectors = vectors[vectors.any(dim=1)]
    if len(vectors) == 0:
        return codewords
    before = None
    for _ in range(rounds):
        nearest, codes = (vectors @ codewords.T).max(dim=1)
        members = F.one_hot(codes, len(codewords)).float()
        means = unit_or_zero(members.T @ vectors)  # a product: sums by index differ from run to run on GPUs
        means = torch.where(means.any(dim=1, keepdim=True), means, codewords)
        empty = (members.sum(dim=0) == 0).nonzero().flatten()
        worst = nearest.argsort(stable=True)[: len(empty)]
        means[empty[: len(worst)]] = vectors[worst]
        if before is not None and len(empty) == 0 and before.equal(codes):
            break
        codewords, before = means, codes
    return codewords
