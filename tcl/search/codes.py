"""Search in codes: a query that is not quantised, against candidates of which only codes are kept (HCQ, section 3.6).

A candidate is P codes, a byte each; code p stands for a codeword of codebook p. A query's table holds its inner product
with every codeword, and a score is the sum of P entries of it: the inner product of the query with the candidate's
codewords laid side by side, of length 1.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tcl.errors import InputError


@dataclass(frozen=True)
class Codes:
    """C candidates, as `checked_codes` makes them."""

    codes: Tensor
    """uint8 [C, P]."""
    codebooks: Tensor
    """fp32 [P, K, d], words of length 1."""

    def __len__(self) -> int:
        return len(self.codes)

    def scores(self, queries: Tensor) -> Tensor:
        """Queries [R, P d], rows of length 1 -> [R, C], cosines."""
        found = torch.zeros(len(queries), len(self), device=queries.device)
        for table, codes in zip(tables(queries, self.codebooks).unbind(1), self.codes.unbind(1), strict=True):
            found += table[:, codes.long()]
        return found

    def decoded(self) -> Tensor:
        """The candidates' codewords side by side: fp32 [C, P d], rows of length 1."""
        places = torch.arange(len(self.codebooks), device=self.codes.device)
        return self.codebooks[places, self.codes.long()].flatten(1) / len(self.codebooks) ** 0.5


def tables(queries: Tensor, codebooks: Tensor) -> Tensor:
    """Queries [R, P d] with codebooks [P, K, d]: fp32 [R, P, K], entries of which a score is the sum."""
    parts = queries.float().unflatten(1, (len(codebooks), -1))
    return torch.einsum("rpd,pkd->rpk", parts, codebooks) / len(codebooks) ** 0.5


def similarities(queries: Tensor, candidates: Tensor | Codes) -> Tensor:
    """Queries [R, D] with candidates, rows [C, D] or their codes -> fp32 [R, C]."""
    return candidates.scores(queries) if isinstance(candidates, Codes) else (queries @ candidates.T).float()


def checked_codes(codes: Tensor | np.ndarray, codebooks: Tensor, place: str = "codes") -> Codes:
    """Codes [C, P] or [C, V, M], P = V M, of codebooks fp32 [P, K, d] or [V, M, K, d].

    InputError, which begins with `place`: another number of codes than of codebooks, or a code beyond the codewords.
    """
    books = codebooks.detach().float().flatten(0, -3)
    given = torch.as_tensor(codes)
    P, K = books.shape[:2]
    if given.dtype != torch.uint8 or given.ndim < 2 or given[0:1].numel() not in (0, P):
        raise InputError(
            f"{place}: {list(given.shape)} of {str(given.dtype).removeprefix('torch.')}; accepted: uint8 with {P} "
            f"codes for each item"
        )
    flat = given.reshape(len(given), P)
    if len(flat) and int(flat.max()) >= K:
        row, part = (flat >= K).nonzero()[0].tolist()
        raise InputError(
            f"{place}: code {int(flat[row, part])} of part {part} of item {row} is beyond the codebooks, which have "
            f"{K} codewords"
        )
    return Codes(flat, books)


def codebooks_hash(codebooks: Tensor) -> str:
    """By which codes know their codebooks, [V, M, K, d] or [P, K, d]: hexadecimal, the same on every machine."""
    books = codebooks.detach().cpu().float().flatten(0, -3).contiguous()
    return hashlib.sha256(str(list(books.shape)).encode() + books.numpy().astype("<f4").tobytes()).hexdigest()


def require_same_codebooks(theirs: str, codebooks: Tensor, place: str) -> None:
    """InputError, which begins with `place`: codes with the hash `theirs` were not made with these codebooks."""
    own = codebooks_hash(codebooks)
    if theirs != own:
        raise InputError(
            f"{place}: codes of other codebooks ({theirs[:12]}) than the model's ({own[:12]}); encode again with this "
            f"model, or take the one that made them"
        )
