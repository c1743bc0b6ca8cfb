"""What a run trains and how it is judged: the one thing in which pre-training and every fine-tuning differ."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tcl.config.data import DataConfig
from tcl.config.model import ModelConfig
from tcl.config.optim import OptimConfig
from tcl.config.train import TrainConfig
from tcl.data.batch import AnyBatch
from tcl.data.feed.batch_stream import SampleReader


class RunConfig(Protocol):
    """What every run's configuration has: PretrainConfig, and the `Config` of each file in tcl.tasks.

    `objective` has momentum, alpha and alpha_ramp_epochs; `eval` has every.
    """

    output_dir: str
    seed: int
    model: ModelConfig
    objective: object
    data: DataConfig
    optim: OptimConfig
    train: TrainConfig
    eval: object


class Student(Protocol):
    """The module that is trained, and wrapped by DDP or DeepSpeed.

    Called with (batch, targets) it returns a NamedTuple of scalar losses (None where left out) that has a method
    total(objective) -> weighted sum. `temperature` is a parameter of shape [1], or None.
    """

    objective: object
    temperature: Tensor | None

    @property
    def averaged(self) -> nn.Module:
        """The part of it that the teacher follows."""


class Targets(Protocol):
    """What the student learns from in one forward pass."""

    def to_enqueue(self, B: int) -> tuple[Tensor, ...]:
        """Rows [B, ...] that `Teacher.enqueue` takes after the step, those of all processes together."""


class Teacher(Protocol):
    """A module outside the wrapped one, in fp32: teacher(batch, temperature, alpha) -> Targets."""

    def align(self, batch: AnyBatch) -> AnyBatch:
        """The batch in the form in which all processes can share it."""

    def update(self, student) -> None:
        """One step of the moving average towards the fp32 weights of Student.averaged (`full_weights`)."""

    def enqueue(self, *rows: Tensor) -> None:
        """Remember what `Targets.to_enqueue` gave."""


class Evaluation(NamedTuple):
    """What an evaluation found."""

    metrics: dict[str, float]
    """For metrics.jsonl, written as eval_<name>."""
    score: float | None
    """By which the best checkpoint is kept: higher is better. None: there was nothing to score."""
    line: str
    """For the person watching."""
    write: Callable[[Path], None]
    """Writes what was found for each sample into a folder that is there; for the main process to call."""


@dataclass
class Task:
    """Everything that `tcl.training.run` needs to know of what it trains."""

    student: nn.Module
    """A Student."""
    teacher: nn.Module
    """A Teacher."""
    tokenizer: PreTrainedTokenizerBase
    reader: SampleReader
    """Makes batches of the samples of config.data.train."""
    evaluate: Callable[[Accelerator, nn.Module], Evaluation] | None
    """(accelerator, whole student) -> what it found. Called on every process. None: there is nothing to evaluate on."""
    activation_bytes: float
    """Estimate for one device, at the end of the student's forward pass."""
    notices: list[str] = field(default_factory=list)
    """Lines for the person watching, at the start."""
    answers: list[str] | None = None
    """The closed list from which answers are chosen, which the run keeps a copy of."""


BuildTask = Callable[[RunConfig, Accelerator], Task]
"""Makes the task of a configuration, its weights drawn from torch's seeded generator. InputError: bad names or data."""
