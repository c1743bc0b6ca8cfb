"""What is kept of an image or a text to find it by, and how it is learned (HCQ, arXiv 2202.03384)."""

from dataclasses import dataclass
from typing import Literal

from tcl.config.checks import check_at_least, require
from tcl.errors import InputError


@dataclass
class CodeSizes:
    """Of codes: (1 + levels) x parts bytes for each image or text."""

    dim: int = 256
    """Numbers of the vector of a level, a multiple of parts. 512 in the paper."""
    levels: int = 7
    """Fine levels, clusters of the patches and words, >= 1, beside the coarse one of [CLS]. 7 in the paper."""
    ghosts: int = 1
    """Clusters more, >= 0, for tokens that belong nowhere: nothing is kept of them. 1 in the paper."""
    parts: int = 8
    """Of a level's vector, each of which is a byte, >= 1. The paper has 8 to 64 of 512 numbers."""
    codewords: int = 256
    """Of each part to choose from, 2 to 256. 256 in the paper."""


@dataclass
class QuantiseConfig(CodeSizes):
    """Sizes of the codes, and how their heads and codebooks are learned."""

    assignment: Literal["soft", "straight_through"] = "soft"
    """soft: a part is the mean of its codewords by softmax, and gradients train the codebooks, from a stream as from a
    finite set. straight_through: a part is its nearest codeword, gradients pass it by, and k-means refits the codebooks
    to the vectors of each epoch at its end, as the published code does."""
    alpha: float = 10.0
    """By which similarities are multiplied before the softmax of the soft assignment, > 0."""
    nearest: int | None = None
    """Codewords, 1 to codewords, over which the soft assignment goes. None: all."""
    temperature: float = 0.05
    """By which similarities are divided in the contrast, 0.001 to 0.5. 0.05 in the paper; not learned."""
    prior: float = 0.0
    """Share of the other samples of a batch that are right for a query all the same, 0 <= p < 1: it is taken off the
    contrast of the fine levels. 0 as published."""
    refit_pairs: int = 8192
    """straight_through: newest pairs of an epoch whose vectors are kept for the refit, in memory and in checkpoints,
    8 (1 + levels) dim bytes each; at least half as many as codewords."""
    refit_rounds: int = 10
    """Of k-means in a refit, at most, >= 1. 10 as published."""


@dataclass
class CompressedObjective:
    """What is learned beside the codes."""

    itm_weight: float = 1.0
    """Weight of image-text matching, >= 0, which re-ranks what codes find: it follows the towers while they are
    trained. 0 leaves it as it is, and the fusion encoder is frozen; right where the towers are frozen as well."""
    itm_hardness: float = 1.0
    """ITM's negatives, from the batch of their process, are drawn in proportion to exp(hardness x similarity /
    temperature), >= 0."""


def check_code_sizes(sizes: CodeSizes, place: str) -> None:
    """InputError, which begins with `place`: the first impossible value."""
    check_at_least(1, {f"{place}{name}": getattr(sizes, name) for name in ("dim", "levels", "parts")})
    check_at_least(0, {f"{place}ghosts": sizes.ghosts})
    if sizes.dim % sizes.parts:
        raise InputError(
            f"{place}parts: {sizes.parts} do not divide {place}dim, {sizes.dim}; accepted: a divisor of it"
        )
    accepted = "2 to 256: a code is a byte"
    require(2 <= sizes.codewords <= 256, f"{place}codewords", sizes.codewords, accepted)
    for name, most in (("dim", 2**16), ("levels", 1024), ("ghosts", 1024)):
        require(getattr(sizes, name) <= most, f"{place}{name}", getattr(sizes, name), f"at most {most:,}")


def check_quantise(quantise: QuantiseConfig) -> None:
    """InputError: the first impossible value of the section `quantise`."""
    check_code_sizes(quantise, "quantise.")
    require(0 < quantise.alpha <= 10_000, "quantise.alpha", quantise.alpha, "a number > 0, at most 10,000")
    nearest = quantise.nearest
    accepted = f"1 to {quantise.codewords}, or null"
    require(nearest is None or 1 <= nearest <= quantise.codewords, "quantise.nearest", nearest, accepted)
    require(0.001 <= quantise.temperature <= 0.5, "quantise.temperature", quantise.temperature, "0.001 to 0.5")
    require(0 <= quantise.prior < 1, "quantise.prior", quantise.prior, "0 <= p < 1")
    check_at_least(1, {"quantise.refit_pairs": quantise.refit_pairs, "quantise.refit_rounds": quantise.refit_rounds})
    if quantise.assignment == "straight_through" and 2 * quantise.refit_pairs < quantise.codewords:
        raise InputError(
            f"quantise.refit_pairs: {quantise.refit_pairs} pairs have fewer vectors than quantise.codewords, "
            f"{quantise.codewords}; give at least {-(-quantise.codewords // 2)}"
        )


def check_compressed_objective(objective: CompressedObjective, batch_size: int) -> None:
    """InputError: the first impossible value of the section `objective`."""
    check_at_least(0, {f"objective.{name}": getattr(objective, name) for name in ("itm_weight", "itm_hardness")})
    if batch_size < 2:
        raise InputError(f"train.batch_size: {batch_size}; the others of a batch are the negatives: give at least 2")
