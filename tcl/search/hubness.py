"""What a candidate gets from many queries, whatever they ask for: its hubness, from a bank of stored queries.

A candidate that is near to every query is a hub: it takes places among the best that belong to others. What the
queries of a bank give it, in units of similarity, is subtracted from its similarity with any new query. Two published
ways, both in the log domain and without a matrix of bank x candidates:

    inverted softmax  tau log sum_q e^{s_qc / tau}                               (Smith et al. 2017)
    Sinkhorn          -tau log u_c: u scales columns, v rows, in turn, until e^{s/tau} has equal marginals
                      (arXiv 2311.08143; stored potentials as in DBSN)
"""

import math
from typing import Literal

import torch
from torch import Tensor

from tcl.config.checks import require
from tcl.errors import InputError

Method = Literal["inverted_softmax", "sinkhorn"]

ROWS, COLUMNS = 2048, 2048
"""Of the similarities that are there at a time: 16 MiB."""


@torch.no_grad()
def hubness(bank: Tensor, candidates: Tensor, method: Method, temperature: float, iterations: int = 5) -> Tensor:
    """Unit rows bank [N, D] and candidates [C, D] -> [C] fp32, to subtract from cosines with the candidates.

    temperature > 0 divides cosines; the smaller it is, the more the nearest queries count alone. iterations >= 1: of
    Sinkhorn. A constant more or less for all candidates ranks the same. Memory is O((N + C) D), time O(N C D) times
    twice the iterations.

    InputError: a bank without rows, widths that differ, numbers out of range, features that are not finite.
    """
    check_bank(bank, candidates)
    require(0 < temperature < math.inf, "temperature", temperature, "a number > 0")
    require(method in ("inverted_softmax", "sinkhorn"), "method", method, "inverted_softmax or sinkhorn")
    if method == "inverted_softmax":
        return temperature * log_sums(candidates, bank, temperature)
    return sinkhorn_potentials(bank, candidates, temperature, iterations)[1]


def sinkhorn_potentials(bank: Tensor, candidates: Tensor, temperature: float, iterations: int) -> tuple[Tensor, Tensor]:
    """What to subtract from the cosines of bank [N, D] and candidates [C, D], for each row [N] and column [C], so that
    all rows of e^{cosine / temperature} sum to about 1 / N and all columns to 1 / C.

    iterations >= 1: rows, then columns. InputError: fewer.
    """
    require(iterations >= 1, "iterations", iterations, "1 or more")
    log_u = torch.full((len(candidates),), -math.log(len(candidates)), device=candidates.device)
    for _ in range(iterations):
        log_v = -math.log(len(bank)) - log_sums(bank, candidates, temperature, log_u)
        log_u = -math.log(len(candidates)) - log_sums(candidates, bank, temperature, log_v)
    return -temperature * log_v, -temperature * log_u


def log_sums(rows: Tensor, columns: Tensor, temperature: float, offsets: Tensor | None = None) -> Tensor:
    """log sum over c of e^{row . column_c / temperature + offset_c}: rows [R, D], columns [C, D], offsets [C] -> [R].

    Sums are kept relative to the highest exponent so far, and shrunk when a higher one comes.
    """
    found = torch.empty(len(rows), device=rows.device)
    # One block of similarities for all: many, with what is kept between them, would tear the heap into pieces.
    room = found.new_empty(min(ROWS, len(rows)) * min(COLUMNS, len(columns)))
    for first in range(0, len(rows), ROWS):
        scaled = rows[first : first + ROWS].float() / temperature
        highest = scaled.new_full((len(scaled), 1), -math.inf)
        total = torch.zeros_like(highest)
        for start in range(0, len(columns), COLUMNS):
            of_these = slice(start, start + COLUMNS)
            others = columns[of_these].T.float()
            exponents = room[: len(scaled) * others.shape[1]].view(len(scaled), -1)
            torch.matmul(scaled, others, out=exponents)
            if offsets is not None:
                exponents += offsets[of_these]
            higher = torch.maximum(highest, exponents.amax(dim=1, keepdim=True))
            total.mul_((highest - higher).exp_()).add_(exponents.sub_(higher).exp_().sum(dim=1, keepdim=True))
            highest = higher
        found[first : first + ROWS] = (highest + total.log()).squeeze(1)
    return found


def check_bank(bank: Tensor, candidates: Tensor) -> None:
    """InputError: no rows, widths that differ, or values that are not finite."""
    for name, features in (("bank", bank), ("candidates", candidates)):
        if features.ndim != 2 or 0 in features.shape:
            raise InputError(f"{name}: a tensor {list(features.shape)}; give one row for each, of at least one, [N, D]")
        if not all(end.isfinite() for end in features.aminmax()):  # isfinite of all would be copies of all
            raise InputError(f"{name}: NaN or infinite features; give embeddings, rows of length 1")
    if bank.shape[1] != candidates.shape[1]:
        raise InputError(
            f"bank: features of width {bank.shape[1]}, candidates of width {candidates.shape[1]}; give both as one "
            f"model embeds them"
        )
