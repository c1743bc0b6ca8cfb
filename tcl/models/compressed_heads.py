"""What is kept of an image or a text to find it by (HCQ, arXiv 2202.03384): a coarse vector and L fine ones, and their
codes.

The coarse vector comes from [CLS] through a gated unit, one for images and one for texts: with one image encoder there
is one expert, whose weight is 1. The fine ones come from patches and from word tokens ([CLS] and padding left out),
each brought to `dim` numbers, through one GhostVLAD that both share, as they share the codebooks of each level.
"""

import torch
from torch import Tensor, nn

from tcl.config.quantise import CodeSizes
from tcl.models.gated_unit import GatedUnit
from tcl.models.ghost_vlad import GhostVLAD
from tcl.models.product_quantiser import ProductQuantiser, split


class CompressedHeads(nn.Module):
    """V = 1 + L levels of M parts of d numbers, M d = dim; the coarse level is the first."""

    def __init__(self, image_width: int, text_width: int, sizes: CodeSizes, trained_codebooks: bool = True):
        super().__init__()
        self.sizes = sizes
        self.image_coarse = GatedUnit(image_width, sizes.dim)
        self.text_coarse = GatedUnit(text_width, sizes.dim)
        self.image_fine = nn.Linear(image_width, sizes.dim)
        self.text_fine = nn.Linear(text_width, sizes.dim)
        self.vlad = GhostVLAD(sizes.dim, sizes.levels, sizes.ghosts)
        shape = (1 + sizes.levels, sizes.parts, sizes.codewords, sizes.dim // sizes.parts)
        self.quantiser = ProductQuantiser(shape, trained_codebooks)

    def image_levels(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, image width], the global one first -> fp32 [B, V, M, d], parts of length 1."""
        there = torch.ones(tokens[:, 1:].shape[:2], dtype=torch.bool, device=tokens.device)
        return self.levels(self.image_coarse(tokens[:, 0]), self.image_fine(tokens[:, 1:]), there)

    def text_levels(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens [B, L, text width], the global one first, mask [B, L] (1 token) -> fp32 [B, V, M, d], parts of length
        1; zero in the fine levels of a text without words."""
        return self.levels(self.text_coarse(tokens[:, 0]), self.text_fine(tokens[:, 1:]), mask[:, 1:].bool())

    def levels(self, coarse: Tensor, fine_tokens: Tensor, there: Tensor) -> Tensor:
        """Coarse vectors [B, dim] and tokens [B, N, dim], of which bool [B, N] are there -> [B, V, M, d]."""
        levels = torch.cat([coarse[:, None], self.vlad(fine_tokens, there)], dim=1)
        return split(levels, self.sizes.parts)
