"""Two-stage retrieval: the best candidates by embedding, in the order of their ITM score (ALBEF section 4).

The same ranking that tcl.evaluation measures, equal scores included.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tcl.errors import InputError
from tcl.inference.embed import Embedded
from tcl.search.candidates import QUERIES_AT_A_TIME, best_first
from tcl.search.pair_scores import MatchPairs, match_each_pair


@dataclass(frozen=True)
class Retrieved:
    """The k best of a corpus for each of Q queries, best first."""

    ids: np.ndarray
    """[Q, k] int64, places in the corpus."""
    similarities: np.ndarray
    """[Q, k] float32, cosines of the embeddings, -1 to 1: the first stage."""
    match_scores: np.ndarray
    """[Q, k] float32, ITM logits of "match": the second stage, which decides the order."""


def check_search(query: Embedded, corpus: Embedded, k: int, candidates: int) -> None:
    """InputError: query and corpus of one kind, k or candidates out of range."""
    if query.kind == corpus.kind:
        raise InputError(
            f"corpus: {corpus.kind}, as the query; search texts by images (PIL images or pathlib.Path), and images by "
            f"texts (strings)"
        )
    if not 1 <= k <= len(corpus.items):
        raise InputError(f"k: {k}, of a corpus of {len(corpus.items):,}; accepted: 1 to {len(corpus.items)}")
    if candidates < 1:
        raise InputError(f"candidates: {candidates} is not possible; accepted: 1 or more")


@torch.no_grad()
def retrieve(query: Embedded, corpus: Embedded, k: int, candidates: int, match: MatchPairs) -> Retrieved:
    """The k best of `corpus` for each query. ITM orders the max(k, candidates) best by embedding.

    Arguments must have passed `check_search`.
    """
    weighed = min(max(k, candidates), len(corpus.items))
    chosen, similarities = rank_by_cosine(query.features, corpus.features, weighed)
    query_index = torch.arange(len(chosen))[:, None].expand_as(chosen)
    pairs = (query_index, chosen) if query.kind == "images" else (chosen, query_index)
    scores = match_each_pair(*pairs, match)
    order, ordered = best_first(scores)
    order, ordered = order[:, :k], ordered[:, :k]
    return Retrieved(chosen.gather(1, order).numpy(), similarities.gather(1, order).numpy(), ordered.numpy())


def rank_by_cosine(queries: np.ndarray, corpus: np.ndarray, k: int) -> tuple[Tensor, Tensor]:
    """Unit rows [Q, D] and [C, D] -> indices of the k best of each query, ascending, and their cosines, [Q, k] each."""
    found, cosines = [], []
    candidates = torch.from_numpy(corpus)
    for rows in torch.from_numpy(queries).split(QUERIES_AT_A_TIME):
        scores = rows @ candidates.T
        best = best_first(scores)[0][:, :k].sort(dim=1).values
        found.append(best)
        cosines.append(scores.gather(1, best))
    return torch.cat(found), torch.cat(cosines)
