"""Re-scoring of the first stage: other scores than similarities decide which candidates are best, and in what order.

Against hubs, say, which are near to every query: inverted softmax, Sinkhorn and dual softmax take from a candidate what
it gets from many queries, those of a bank or those of the search itself.
"""

from collections.abc import Callable

from torch import Tensor

from tcl.errors import InputError

RescoreRows = Callable[[Tensor], Tensor]
"""Similarities [R, C] fp32 of some queries with all candidates -> scores [R, C], higher is better, -inf is last.

Each row for itself: which queries come together depends on memory alone. It may overwrite the similarities: memory for
as many more would cost more than the arithmetic.
"""
Rescore = Callable[[Tensor, Tensor], RescoreRows]
"""Embeddings of all queries [Q, D] and candidates [C, D], unit rows -> `RescoreRows`.

Called once for a search, before its first similarity: the place to prepare a statistic of each candidate [C].
"""


def rescored(rows: RescoreRows, similarities: Tensor) -> Tensor:
    """Scores fp32 [R, C] of similarities [R, C]. InputError: `rows` gave another shape, or NaN."""
    scores = rows(similarities)
    if not isinstance(scores, Tensor) or scores.shape != similarities.shape:
        given = f"a tensor {list(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
        raise InputError(
            f"rescore: {given} for similarities {list(similarities.shape)}; give a tensor with a score for each of them"
        )
    if scores.numel() and scores.amax().isnan():  # which NaN anywhere makes it
        raise InputError("rescore: NaN among the scores; give numbers, -inf for what shall come last")
    return scores.float()
