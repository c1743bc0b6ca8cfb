"""Two-stage retrieval in a corpus: tcl.search, as evaluation calls it, for what a person has and wants to see."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tcl.config.checks import require
from tcl.errors import InputError
from tcl.inference.embed import Embedded
from tcl.search.pair_scores import MatchPairs, match_once, pairs_of_images, pairs_of_texts
from tcl.search.rescore import Rescore
from tcl.search.rescorings import by_stored
from tcl.search.two_stage import Search, search


@dataclass(frozen=True)
class Retrieved:
    """The k best of a corpus for each of Q queries, best first."""

    ids: np.ndarray
    """[Q, k] int64, places in the corpus."""
    similarities: np.ndarray
    """[Q, k] float32, the first stage: cosines of the embeddings, -1 to 1, or what `rescore` made of them."""
    match_scores: np.ndarray
    """[Q, k] float32, ITM logits of "match": the second stage, which decides the order. `similarities` where there is
    none."""


def check_search(query: Embedded, corpus: Embedded, k: int, candidates: int) -> None:
    """InputError: query and corpus of one kind, k or candidates out of range."""
    if query.kind == corpus.kind:
        raise InputError(
            f"corpus: {corpus.kind}, as the query; search texts by images (PIL images or pathlib.Path), and images by "
            f"texts (strings)"
        )
    if not 1 <= k <= len(corpus.items):
        raise InputError(f"k: {k}, of a corpus of {len(corpus.items):,}; accepted: 1 to {len(corpus.items)}")
    require(candidates >= 1, "candidates", candidates, "1 or more")


def retrieve(
    query: Embedded,
    corpus: Embedded,
    k: int,
    candidates: int,
    match: MatchPairs | None,
    rescore: Rescore | None = None,
) -> Retrieved:
    """The k best of `corpus` for each query: those by embedding, re-scored; `match`, if any, orders max(k, candidates).

    A balanced corpus is re-scored by its hubness, unless `rescore` is given.

    Arguments must have passed `check_search`. InputError: scores of `rescore` that cannot be ranked.
    """
    pairs_of = pairs_of_images if query.kind == "images" else pairs_of_texts

    def match_candidates(chosen: Tensor) -> tuple[Tensor, ...]:
        return match_once([pairs_of(chosen)], match)

    if rescore is None and corpus.hubness is not None:
        rescore = by_stored(torch.from_numpy(corpus.hubness))
    features = (torch.from_numpy(side.features) for side in (query, corpus))
    second = None if match is None else match_candidates
    (found,) = search([Search(*features, rescore=rescore)], max(k, candidates), second)
    best = found.best
    return Retrieved(*(rows[:, :k].contiguous().numpy() for rows in (best.candidates, best.similarities, best.scores)))
