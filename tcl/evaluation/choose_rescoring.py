"""Which way of re-scoring, if any, is best on a validation set: every method at some temperatures, beside none."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from tcl.evaluation.recall import CUTS, rank_metrics
from tcl.search.rescorings import METHODS, rescoring
from tcl.search.two_stage import both_directions, search

SURE = 1.96
"""Standard errors on either side of a gain: 95 % of such intervals hold the true one."""


@dataclass(frozen=True)
class Trial:
    """Retrieval with one way of re-scoring."""

    method: str
    """One of tcl.search.rescorings.METHODS, or "none"."""
    temperature: float | None
    """None for "none"."""
    metrics: dict[str, float]
    """As `rank_metrics`."""
    gain: float = 0.0
    """Of the mean recall, in points, over no re-scoring."""
    margin: float = 0.0
    """The gain is this sure: 95 % interval gain - margin to gain + margin, paired over the queries."""


def try_rescorings(
    images: Tensor,
    texts: Tensor,
    pairs: Sequence[tuple[int, int]],
    bank: tuple[Tensor, Tensor],
    temperatures: Sequence[float],
    iterations: int,
) -> Iterator[Trial]:
    """No re-scoring first, then every method at every temperature.

    Unit rows images [I, D] and texts [T, D], each of them in one of the pairs (image, text) at least; bank: of image
    queries [N, D] and of text queries [M, D]. InputError: as `rescoring`.
    """
    plain = _ranks(images, texts, pairs, (None, None))
    yield Trial("none", None, rank_metrics(*plain))
    for method in METHODS:
        for temperature in temperatures:
            ways = tuple(rescoring(method, stored, temperature, iterations) for stored in bank)
            ranks = _ranks(images, texts, pairs, ways)
            yield Trial(method, temperature, rank_metrics(*ranks), *_gain(ranks, plain))


def best_trial(trials: Sequence[Trial]) -> Trial:
    """That of the highest mean recall; the first, "none", unless some gain is sure."""
    best = max(trials, key=lambda trial: trial.metrics["mean"])
    return best if best.gain > best.margin else trials[0]


def _ranks(images: Tensor, texts: Tensor, pairs: Sequence[tuple[int, int]], rescore: tuple) -> tuple[Tensor, Tensor]:
    by_image, by_text = search(both_directions(images, texts, pairs, rescore), 1)
    return by_image.first.ranks, by_text.first.ranks


def _gain(ranks: tuple[Tensor, Tensor], plain: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Of the mean of all recalls, in points, and half its 95 % interval: both directions count alike."""
    gain = variance = 0.0
    for after, before in zip(ranks, plain, strict=True):
        by_query = sum((after <= k).double() - (before <= k).double() for k in CUTS) * 100 / len(CUTS)
        gain += by_query.mean().item() / 2
        if len(by_query) > 1:
            variance += by_query.var().item() / len(by_query) / 4
    return gain, SURE * variance**0.5
