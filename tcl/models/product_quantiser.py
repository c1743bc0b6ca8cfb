"""Product quantisation on unit spheres (HCQ, arXiv 2202.03384, section 3.4): a vector as a codeword for each part.

A vector of D numbers is M parts of d = D / M, each scaled to length 1; codewords have length 1, and the code of a part
is the codeword with the largest inner product, which is the nearest one. Similarities of a level are cosines of its
parts laid side by side.
"""

import torch
from torch import Tensor, nn

from tcl.config.quantise import QuantiseConfig
from tcl.models.unit_rows import unit_or_zero

CODED_AT_ONCE = 1024
"""Vectors that are compared with all codewords at a time: 64 MiB of similarities at 64 bytes of code."""


def split(vectors: Tensor, parts: int) -> Tensor:
    """[..., D] -> [..., parts, d], each part of length 1, or zero."""
    return unit_or_zero(vectors.unflatten(-1, (parts, -1)))


def similarities(parts: Tensor, codewords: Tensor) -> Tensor:
    """Parts [..., M, d] with codewords [..., M, K, d] (leading dimensions are broadcast) -> [..., M, K]."""
    return torch.einsum("...md,...mkd->...mk", parts, codewords)


def soft_assignment(similar: Tensor, alpha: float, best: int | None = None) -> Tensor:
    """[..., K] -> softmax of alpha times them; best: over that many (1 to K) of the highest, 0 elsewhere."""
    if best is not None:
        last = similar.topk(best, dim=-1).values[..., -1:]
        similar = similar.masked_fill(similar < last, -torch.inf)
    return (alpha * similar).softmax(dim=-1)


def soft_parts(assignment: Tensor, codewords: Tensor) -> Tensor:
    """Assignments [..., M, K] -> means of codewords [..., M, K, d]: [..., M, d]. Gradients reach both."""
    return torch.einsum("...mk,...mkd->...md", assignment, codewords)


def hard_parts(codes: Tensor, codewords: Tensor) -> Tensor:
    """Codes int64 [..., M] -> the codewords [M, K, d], or [V, M, K, d] for codes [..., V, M]: [..., M, d]."""
    per_part = codewords.flatten(0, -3)
    places = torch.arange(len(per_part), device=codes.device).view(codewords.shape[:-2])
    return per_part[places, codes]


def straight_through(value: Tensor, source: Tensor) -> Tensor:
    """`value`, with the gradient going to `source` as it comes (Bengio et al. 2013)."""
    return source + (value - source).detach()


def quantisation_error(parts: Tensor, quantised: Tensor) -> Tensor:
    """Squared distance of [..., M, d] each -> [...], 0 to 4 M."""
    return (parts - quantised).square().sum(dim=(-2, -1))


class ProductQuantiser(nn.Module):
    """Codebooks of each level [V, M, K, d], a parameter where gradients train them, else a buffer that is refitted."""

    def __init__(self, shape: tuple[int, int, int, int], trained: bool = True):
        super().__init__()
        codebooks = unit_or_zero(torch.randn(shape))
        if trained:
            self.codebooks = nn.Parameter(codebooks)
        else:
            self.register_buffer("codebooks", codebooks)

    @property
    def codewords(self) -> Tensor:
        """The codebooks, fp32 [V, M, K, d], words of length 1."""
        return unit_or_zero(self.codebooks.float())

    def forward(self, levels: Tensor, config: QuantiseConfig) -> Tensor:
        """[B, V, M, d] -> the same shape, as codes have them while they are trained, which `config` says."""
        codewords = self.codewords
        similar = similarities(levels, codewords)
        if config.assignment == "soft":
            return soft_parts(soft_assignment(similar, config.alpha, config.nearest), codewords)
        return straight_through(hard_parts(similar.argmax(dim=-1), codewords), levels)

    @torch.no_grad()
    def codes(self, levels: Tensor) -> Tensor:
        """[B, V, M, d] -> uint8 [B, V, M]: the nearest codeword of each part. One of zeros has the first."""
        codewords = self.codewords
        some = [similarities(rows, codewords).argmax(dim=-1).to(torch.uint8) for rows in levels.split(CODED_AT_ONCE)]
        return torch.cat(some)
