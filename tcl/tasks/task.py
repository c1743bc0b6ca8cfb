"""What a run trains and how it is judged: the one thing in which pre-training and every fine-tuning differ."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedTokenizerBase

from tcl.config.data import DataConfig
from tcl.config.distillation import NO_TEACHER, Distillation
from tcl.config.model import ModelConfig
from tcl.config.optim import OptimConfig
from tcl.config.train import TrainConfig
from tcl.data.batch import Batch
from tcl.data.feed.batch_stream import SampleReader
from tcl.objectives.kind import Kind


class RunConfig(Protocol):
    """What the `Config` of each file in tcl.tasks has; `eval` has the field every. A task that trains nothing needs
    neither that nor optim."""

    output_dir: str
    seed: int
    model: ModelConfig
    data: DataConfig
    optim: OptimConfig
    train: TrainConfig
    eval: object


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

    kind: Kind
    """What the student is, for exports and whoever loads it."""
    student: nn.Module
    """A `tcl.objectives.objective.Student`."""
    teacher: nn.Module
    """A `tcl.objectives.objective.Teacher`."""
    tokenizer: PreTrainedTokenizerBase | None
    """None: the student reads no texts."""
    reader: SampleReader
    """Makes batches of the samples of config.data.train."""
    prepare: Callable[[Batch], Batch]
    """A batch that has come to the device -> as the encoders take it."""
    evaluate: Callable[[Accelerator, nn.Module], Evaluation] | None
    """(accelerator, whole student) -> what it found. Called on every process. None: there is nothing to evaluate on."""
    activation_bytes: float
    """Estimate for one device, at the end of the student's forward pass."""
    distillation: Distillation = field(default_factory=lambda: NO_TEACHER)
    """How the teacher is followed."""
    notices: list[str] = field(default_factory=list)
    """Lines for the person watching, at the start."""
    answers: list[str] | None = None
    """The closed list from which answers are chosen, which the run keeps a copy of."""


BuildTask = Callable[[RunConfig, Accelerator], Task]
"""Makes the task of a configuration, its weights drawn from torch's seeded generator. InputError: bad names or data."""
