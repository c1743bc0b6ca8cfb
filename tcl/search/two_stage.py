"""Two-stage retrieval (ALBEF section 4): the best candidates by embedding, then in the order of a slower scorer.

Everything that ranks calls `search`: evaluation, the Python API, ONNX. What the queries and candidates are, it is not
told: the second stage, a function that is given, knows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tcl.search.candidates import Ranked, Relevance, rank_again, rank_by_embedding, relevance
from tcl.search.codes import Codes
from tcl.search.rescore import Rescore

MatchCandidates = Callable[..., Sequence[Tensor]]
"""Candidates [Q, k] int64 of each search, an argument each -> their scores, as many tensors of the same shapes.

tcl.search.pair_scores makes one of a function that scores pairs.
"""


@dataclass(frozen=True)
class Search:
    """Q queries among C candidates."""

    queries: Tensor
    """[Q, D], rows of length 1."""
    candidates: Tensor | Codes
    """[C, D], rows of length 1, on the same device; or what is kept of them."""
    relevant: Relevance | None = None
    """Where it is given, the ranks of right answers are found too."""
    rescore: Rescore | None = None
    """None: similarities as they are."""


@dataclass(frozen=True)
class Found:
    """What a search found."""

    first: Ranked
    """By embedding, re-scored: the first stage."""
    best: Ranked
    """By the second stage; `first` itself where there is none."""


@torch.no_grad()
def search(
    searches: Sequence[Search], k: int, match: MatchCandidates | None = None, similarity_weight: float = 0.0
) -> list[Found]:
    """The k (>= 1; all, where they are fewer) best of each search by embedding, and in the order of `match`.

    The second stage is asked once for all searches, so that it can score a pair once that several of them want.
    match: None for a model of two towers, whose order is that of the first stage. similarity_weight: of the scores of
    the first stage, which are added to those of `match`. InputError: scores of a `Rescore` that cannot be ranked.
    """
    first = [
        rank_by_embedding(one.queries, one.candidates, one.relevant, min(k, len(one.candidates)), one.rescore)
        for one in searches
    ]
    if match is None:
        return [Found(ranked, ranked) for ranked in first]
    matched = match(*(ranked.candidates for ranked in first))
    # At 0 the order is that of `match` even where a first score is -inf.
    scores = [
        again + similarity_weight * ranked.scores.to(again.device) if similarity_weight else again
        for ranked, again in zip(first, matched, strict=True)
    ]
    return [
        Found(ranked, rank_again(ranked, again, one.relevant, len(one.candidates)))
        for one, ranked, again in zip(searches, first, scores, strict=True)
    ]


def both_directions(
    images: Tensor,
    texts: Tensor,
    pairs: Sequence[tuple[int, int]],
    rescore: tuple[Rescore | None, Rescore | None] = (None, None),
) -> list[Search]:
    """Images [I, D] that search texts [T, D], then texts that search images; each of them is in one pair at least.

    pairs: (image, text) that belong together. rescore: of either search.
    """
    of_images, of_texts = torch.tensor(pairs, device=images.device).T
    rescore_images, rescore_texts = rescore
    return [
        Search(images, texts, relevance(of_images, of_texts, len(images)), rescore_images),
        Search(texts, images, relevance(of_texts, of_images, len(texts)), rescore_texts),
    ]
