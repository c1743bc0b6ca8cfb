"""Published ways to re-score a search against hubs, as `tcl.search.rescore` takes them.

With a bank of stored queries, a query is ranked as it is alone. Without one the queries of the search stand in for it:
a transductive score, which reads the other queries, and is not to be compared with those of systems that do not.
"""

import math

import torch
from torch import Tensor

from tcl.config.checks import require
from tcl.search.hubness import COLUMNS, check_bank, hubness, log_sums
from tcl.search.rescore import Rescore, RescoreRows

METHODS = ("inverted_softmax", "sinkhorn", "dsl", "qb_norm")


def rescoring(method: str, bank: Tensor | None, temperature: float, iterations: int = 5) -> Rescore:
    """One of `METHODS` with stored queries bank [N, D], unit rows; None: transductive.

    temperature > 0 divides cosines; QB-Norm's beta is 1 / temperature. iterations: of Sinkhorn, >= 1. InputError, here
    or when the search begins: what `hubness` refuses, an unknown method.
    """
    require(method in METHODS, "method", method, f"one of {', '.join(METHODS)}")
    require(0 < temperature < math.inf, "temperature", temperature, "a number > 0")

    def rescore(queries: Tensor, candidates: Tensor) -> RescoreRows:
        stored = queries if bank is None else bank.to(candidates.device)
        if method in ("inverted_softmax", "sinkhorn"):
            return less(hubness(stored, candidates, method, temperature, iterations))
        check_bank(stored, candidates)
        sums = log_sums(candidates, stored, temperature)
        if method == "qb_norm":
            return qb_norm(sums, activation_set(stored, candidates, k=1), temperature)
        stacked = bank is not None  # else each query is among those that were summed
        # Dual Softmax multiplies by the cosine, below 0 the wrong way round: by 1 + cosine, and in logs, where the
        # softmax of a poor candidate is no 0.
        return lambda cosines: (1 + cosines).clamp(min=0).log() + log_prior(cosines, sums, temperature, stacked=stacked)

    return rescore


def by_stored(hubness: Tensor) -> Rescore:
    """Hubness [C] of the candidates, computed when they were stored."""
    return lambda queries, candidates: less(hubness)


def less(hubness: Tensor) -> RescoreRows:
    """Similarities [R, C], in place, less hubness [C]: a query costs a subtraction for each candidate."""
    return lambda similarities: similarities.sub_(hubness)


def log_prior(similarities: Tensor, sums: Tensor, temperature: float, *, stacked: bool) -> Tensor:
    """Logs of the softmax over all queries of each candidate, for the queries of similarities [R, C].

    sums [C]: of e^{s / temperature} over the queries, in logs. stacked: a row's own query is not among them, and joins.
    """
    own = similarities / temperature
    return own - (torch.logaddexp(sums, own) if stacked else sums)


def dual_softmax(similarities: Tensor, sums: Tensor, temperature: float, *, stacked: bool) -> Tensor:
    """Dual Softmax as published (CAMoE, arXiv 2109.04290), less its factor Q, the number of queries: similarities
    [R, C], times the prior. The arguments are those of `log_prior`."""
    return similarities * log_prior(similarities, sums, temperature, stacked=stacked).exp()


def activation_set(bank: Tensor, candidates: Tensor, k: int) -> Tensor:
    """Which candidates are among the k (1 to C) nearest of any query of a bank (QB-Norm, 2022): bool [C].

    InputError: k out of range.
    """
    require(1 <= k <= len(candidates), "k", k, f"1 to {len(candidates)}")
    active = torch.zeros(len(candidates), dtype=torch.bool, device=candidates.device)
    for some in bank.split(COLUMNS):
        active[(some @ candidates.T).topk(k, dim=1).indices.flatten()] = True
    return active


def qb_norm(sums: Tensor, active: Tensor, temperature: float) -> RescoreRows:
    """Dynamic inverted softmax: rows whose best candidate is in `active` [C] become the logs of e^{s / temperature}
    over its sum [C] for the bank, given in logs; others stay as they are."""

    def rows(similarities: Tensor) -> Tensor:
        is_active = active[similarities.argmax(dim=1)]
        return torch.where(is_active[:, None], similarities / temperature - sums, similarities)

    return rows


def stacked_sinkhorn(
    similarities: Tensor, bank: Tensor, candidates: Tensor, temperature: float, iterations: int
) -> Tensor:
    """Sinkhorn for one query at a time (arXiv 2311.08143): each row of similarities [R, C] is stacked on those of a
    bank [N, D] with candidates [C, D], and rows, then columns, are scaled to sum 1, `iterations` >= 1 times -> the logs
    of the query's own row [R, C].

    A query costs as much as `hubness` of the whole bank, which ranks alike after one iteration, and nearly after more.
    """
    check_bank(bank, candidates)
    require(iterations >= 1, "iterations", iterations, "1 or more")
    return torch.stack([_stacked(own / temperature, bank, candidates, temperature, iterations) for own in similarities])


def _stacked(own: Tensor, bank: Tensor, candidates: Tensor, temperature: float, iterations: int) -> Tensor:
    columns = torch.zeros_like(own)
    for _ in range(iterations):
        row = -torch.logsumexp(own + columns, dim=0)
        rows = -log_sums(bank, candidates, temperature, columns)
        columns = -torch.logaddexp(log_sums(candidates, bank, temperature, rows), own + row)
    return own + row + columns
