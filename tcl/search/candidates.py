"""First stage of retrieval: the best candidates of each query by its embedding, and the rank of its first right answer.

Candidates with equal scores rank the later index first, as in the published evaluation (numpy's ascending order,
reversed). Scores are made for some queries at a time, so memory does not grow with queries x candidates.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tcl.search.codes import Codes, similarities
from tcl.search.rescore import Rescore, rescored

QUERIES_AT_A_TIME = 256


@dataclass
class Relevance:
    """Which candidates are right for each of Q queries: those of query q are answers[starts[q] : starts[q + 1]]."""

    starts: Tensor
    """[Q + 1] int64."""
    answers: Tensor
    """[pairs] int64, candidate indices, ascending for each query."""


def relevance(queries: Tensor, answers: Tensor, count: int) -> Relevance:
    """From pairs (queries[i], answers[i]) int64, of `count` queries; every query needs at least one pair."""
    order = (queries * (int(answers.max()) + 1) + answers).argsort()
    counts = torch.bincount(queries, minlength=count)
    return Relevance(torch.cat([counts.new_zeros(1), counts.cumsum(0)]), answers[order])


@dataclass
class Ranked:
    """Candidates of Q queries, best first."""

    candidates: Tensor
    """[Q, k] int64."""
    scores: Tensor
    """[Q, k], what they are ordered by."""
    similarities: Tensor
    """[Q, k], their scores in the first stage: cosines of the embeddings, or what a `Rescore` made of them."""
    ranks: Tensor | None
    """[Q] int64, from 1: that of the first right answer among all candidates; None where none is known."""


def rank_by_embedding(
    queries: Tensor, candidates: Tensor | Codes, relevant: Relevance | None, k: int, rescore: Rescore | None = None
) -> Ranked:
    """Unit rows queries [Q, D] and candidates [C, D], or their codes -> the k (1 to C) best of each query by cosine,
    re-scored (rows only).

    InputError: scores that cannot be ranked, as `rescored` says.
    """
    best, scores, ranks = [], [], []
    rescore_rows = rescore and rescore(queries, candidates)
    for start in range(0, len(queries), QUERIES_AT_A_TIME):
        rows = queries[start : start + QUERIES_AT_A_TIME]
        found = similarities(rows, candidates)
        if rescore_rows:
            found = rescored(rescore_rows, found)
        for kept, of_rows in zip((best, scores), best_of(found, k), strict=True):
            kept.append(of_rows)
        if relevant is not None:
            ranks.append(_first_rank(found, relevant, start))
    found = torch.cat(scores)
    return Ranked(torch.cat(best), found, found, None if relevant is None else torch.cat(ranks))


def rank_again(first: Ranked, scores: Tensor, relevant: Relevance | None, count: int) -> Ranked:
    """The k candidates of `first` ordered by other scores [Q, k]; all the rest of `count` candidates follow them.

    The rest count as equal: the later index first.
    """
    by_index = first.candidates.argsort(dim=1)
    order, ordered = best_first(scores.gather(1, by_index))
    order = by_index.gather(1, order)
    ranked = first.candidates.gather(1, order)
    ranks = None if relevant is None else _ranks_among(ranked, relevant, count)
    return Ranked(ranked, ordered, first.similarities.gather(1, order), ranks)


def best_of(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Indices and values [R, k] of the k (1 to C) highest of each row [R, C], highest first, of equal ones the later
    index first."""
    found, indices = scores.topk(min(k + 1, scores.shape[1]))
    # Of several that equal the last, topk takes any: are there more than are taken?
    is_arbitrary = (found[:, k:] == found[:, k - 1 : k]).any(dim=1)
    found, indices = found[:, :k].clone(), indices[:, :k].clone()
    if is_arbitrary.any():
        order, ordered = best_first(scores[is_arbitrary])
        indices[is_arbitrary], found[is_arbitrary] = order[:, :k], ordered[:, :k]
    by_index = indices.sort(dim=1).values
    order, ordered = best_first(scores.gather(1, by_index))
    return by_index.gather(1, order), ordered


def best_first(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Indices and values of each whole row [R, C], in the order of `best_of`."""
    order = scores.flip(1).argsort(dim=1, descending=True, stable=True)
    order = scores.shape[1] - 1 - order
    return order, scores.gather(1, order)


def _first_rank(scores: Tensor, relevant: Relevance, start: int) -> Tensor:
    """Rank [R], from 1, of the first right answer of each of the queries start .. start + R - 1; scores [R, C]."""
    bounds = relevant.starts[start : start + len(scores) + 1]
    rows, answers = torch.repeat_interleave(bounds.diff()), relevant.answers[bounds[0] : bounds[-1]]
    right = scores[rows, answers]
    best = torch.full_like(scores[:, 0], -torch.inf).scatter_reduce(0, rows, right, "amax")
    is_best = right == best[rows]
    last = torch.full_like(bounds[1:], -1).scatter_reduce(0, rows[is_best], answers[is_best], "amax")
    ahead = (scores > best[:, None]).sum(dim=1)
    behind_it = torch.arange(scores.shape[1], device=scores.device) > last[:, None]
    return 1 + ahead + (behind_it & (scores == best[:, None])).sum(dim=1)


def _ranks_among(ranked: Tensor, relevant: Relevance, count: int) -> Tensor:
    """Ranks [Q] of the first right answers where `ranked` [Q, k] come first, then the rest, the later index first."""
    k = ranked.shape[1]
    queries = torch.repeat_interleave(relevant.starts.diff())
    own = ranked[queries]  # [pairs, k]: the candidates of the query of each right answer
    hit = own == relevant.answers[:, None]
    behind = count - 1 - relevant.answers - (own > relevant.answers[:, None]).sum(dim=1)
    rank = torch.where(hit.any(dim=1), hit.int().argmax(dim=1), k + behind) + 1
    best = torch.full((len(ranked),), count, dtype=rank.dtype, device=rank.device)
    return best.scatter_reduce(0, queries, rank, "amin")
