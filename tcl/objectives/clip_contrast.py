"""MIL-NCE over the batches of all processes."""

from torch import Tensor

from tcl.losses.mil_nce import Positives, mil_nce, unit
from tcl.models.global_batch import gather_rows, gather_rows_with_gradient, world


def contrast(
    features: Tensor,
    partners: Tensor,
    pairs: Tensor,
    temperature: float,
    positives: Positives,
    there: Tensor | None = None,
) -> Tensor:
    """Scalar, whose mean over the processes is the loss of all their samples.

    features [B, D] and their partners [B, K, D], of any length; pairs: bool [B, K], which partners there are. Others
    as of `mil_nce`.
    """
    return mil_nce(
        unit(features),
        gather_rows_with_gradient(unit(partners)),
        gather_rows(pairs),
        temperature,
        positives,
        first=world()[0] * len(partners),
        over_processes=_over_processes,
        there=there,
    )


def _over_processes(sums: Tensor) -> Tensor:
    """Log-sums over the clips of this process -> over those of all."""
    return gather_rows_with_gradient(sums[None]).logsumexp(dim=0)
