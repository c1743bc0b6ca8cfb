"""Ways of re-scoring as a search takes them, in torch and chunk by chunk, and their formulas in numpy, all at once."""

import numpy as np
import torch

from tcl.search.rescore import Rescore, RescoreRows

TEMPERATURE = 0.1


def inverted_softmax(bank: np.ndarray) -> Rescore:
    """Less what a candidate has in common with stored queries, bank [N, D]."""
    bank = torch.from_numpy(bank)

    def rescore(queries: torch.Tensor, candidates: torch.Tensor) -> RescoreRows:
        hubness = TEMPERATURE * torch.logsumexp(bank @ candidates.T / TEMPERATURE, dim=0)
        return lambda similarities: similarities - hubness

    return rescore


def inverted_softmax_at_once(queries: np.ndarray, candidates: np.ndarray, bank: np.ndarray) -> np.ndarray:
    """[Q, C], float64."""
    weights = np.exp(bank.astype(np.float64) @ candidates.T / TEMPERATURE)
    return queries.astype(np.float64) @ candidates.T - TEMPERATURE * np.log(weights.sum(axis=0))


def dual_softmax(queries: torch.Tensor, candidates: torch.Tensor) -> RescoreRows:
    """Times the softmax over all queries of the search itself, whose sum is known before the first row."""
    total = torch.full((len(candidates),), -torch.inf, device=candidates.device)
    for row in queries:
        total = torch.logaddexp(total, candidates @ row / TEMPERATURE)
    return lambda similarities: similarities * (similarities / TEMPERATURE - total).exp()


def dual_softmax_at_once(queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """[Q, C], float64."""
    similarities = queries.astype(np.float64) @ candidates.T
    weights = np.exp(similarities / TEMPERATURE)
    return similarities * weights / weights.sum(axis=0)


def order_of(scores: np.ndarray) -> np.ndarray:
    """Indices of each row [Q, C], highest first, of equal ones the later first."""
    return np.argsort(scores, axis=1, kind="stable")[:, ::-1]


def unit_rows(rows: int, width: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
