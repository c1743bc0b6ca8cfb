"""The teacher of an objective that has none: it costs nothing, and the training step need not know."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from tcl.data.batch import Batch


@dataclass
class NoTargets:
    """A student without a teacher learns from the batch alone."""

    def to_enqueue(self, B: int) -> dict[str, Tensor]:
        """Nothing."""
        return {}


class NoTeacher(nn.Module):
    """A Teacher without weights."""

    def align(self, batch: Batch) -> Batch:
        """Processes share nothing."""
        return batch

    def update(self, student: Iterable[list[Tensor]]) -> None:
        """Nothing follows; what `student` would fetch is not fetched."""

    def forward(self, batch: Batch, learned: dict[str, Tensor], alpha: float) -> NoTargets:
        """Nothing is said of `batch`."""
        return NoTargets()

    def enqueue(self, rows: dict[str, Tensor]) -> None:
        """There is no queue."""
