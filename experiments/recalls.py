"""Recall of what a search found."""

import numpy as np

CANDIDATES = 16
RANKS = (1, 5, 10)


def recalls(ids: np.ndarray, scores: np.ndarray, right: set[tuple[int, int]]) -> dict[str, float]:
    """Places in the corpus [Q, k], and what orders them [Q, k], highest first -> r1, r5 and r10: percent of queries of
    which (query, place) is in `right` for one of the first so many."""
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(ids, order, axis=1)
    hits = np.array([[(query, place) in right for place in places] for query, places in enumerate(ranked.tolist())])
    return {f"r{rank}": 100 * float(hits[:, :rank].any(axis=1).mean()) for rank in RANKS}
