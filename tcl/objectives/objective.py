"""What a training step is made of, whatever is learned from whichever modalities.

teacher(batch) = Targets -> student(batch, targets) = Losses -> optimiser -> teacher.update, teacher.enqueue
"""

from collections.abc import Iterable, Mapping
from typing import ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from tcl.data.batch import Batch
from tcl.losses.learned import LossParameter


class Losses(NamedTuple):
    """What a student's forward pass gives, scalars. A tuple, into which DeepSpeed's hooks can see."""

    each: dict[str, Tensor]
    """Every loss that has a weight > 0, by name, unweighted."""
    metrics: dict[str, Tensor]
    """What to look at beside them."""
    total: Tensor
    """Their weighted sum, which is learned from."""


def weighted(each: dict[str, Tensor], weights: Mapping[str, float], metrics: dict[str, Tensor] | None = None) -> Losses:
    """Losses by name, each times its weight in the total; `weights` may name others as well."""
    return Losses(each, metrics or {}, sum(weights[name] * loss for name, loss in each.items()))


class Targets(Protocol):
    """What the student learns from in one forward pass."""

    def to_enqueue(self, B: int) -> dict[str, Tensor]:
        """Rows [B, ...] by modality that `Teacher.enqueue` takes after the step, those of all processes together."""


class Student(Protocol):
    """The module that is trained, and wrapped by DDP or DeepSpeed: (batch, targets) -> Losses."""

    loss_parameters: ClassVar[dict[str, LossParameter]]
    """Those of its own parameters, by name, that losses learn."""

    @property
    def averaged(self) -> nn.Module:
        """The networks: the part of it that a teacher follows."""


class Teacher(Protocol):
    """A module outside the wrapped one, in fp32: (batch, loss parameters by name, alpha) -> Targets."""

    def align(self, batch: Batch) -> Batch:
        """The batch in the form in which all processes can share it."""

    def update(self, student: Iterable[list[Tensor]]) -> None:
        """One step of the moving average towards the fp32 weights of Student.averaged (`full_weights`)."""

    def enqueue(self, rows: dict[str, Tensor]) -> None:
        """Remember what `Targets.to_enqueue` gave."""
