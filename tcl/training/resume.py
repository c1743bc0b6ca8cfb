"""Going on with a run: from which checkpoint, after how many samples, and with which options changed.

Nothing in here writes a file.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedTokenizerBase

from tcl.checkpoints.run_folder import run_folder_of
from tcl.checkpoints.run_history import option, read_options
from tcl.config import FREE, TrainConfig
from tcl.data.text import load_tokenizer
from tcl.errors import InputError
from tcl.training.checkpoint import Progress, checkpoint_to_resume, raise_together, read_progress
from tcl.training.task import RunConfig


@dataclass
class Start:
    """Where a run goes on. Without a checkpoint it starts at step 0."""

    checkpoint: Path | None
    progress: Progress | None
    damaged: list[str]
    """A line for each damaged checkpoint that was passed over."""
    step: int
    samples: int
    """Given to it so far, over all processes."""


@dataclass(frozen=True)
class Change:
    """An option that differs from that of the run so far."""

    name: str
    was: Any
    now: Any
    free: bool
    """It changes nothing in what the weights mean."""


def find_start(accelerator: Accelerator, config: RunConfig) -> Start:
    """What train.resume stands for. Called on every process. InputError on all of them: as checkpoint_to_resume."""
    folder = Path(config.output_dir) / "checkpoints"
    checkpoint, damaged = checkpoint_to_resume(accelerator, config.train.resume or "auto", folder)
    if checkpoint is None:
        return Start(None, None, damaged, 0, 0)
    progress = read_progress(checkpoint)
    samples = progress.samples
    if samples is None:
        samples = progress.step * _former_batch(checkpoint, config.train) * len(progress.loaders)
    return Start(checkpoint, progress, damaged, progress.step, samples)


def _former_batch(checkpoint: Path, train: TrainConfig) -> int:
    """Samples of a step of one process, of a checkpoint from before samples were counted, by its run's config.yaml."""
    said = _said_of(checkpoint) if _has_config(checkpoint) else {}
    batch, passes = (option(said, f"train.{name}") for name in ("batch_size", "accumulate_steps"))
    return (batch or train.batch_size) * (passes or train.accumulate_steps)


def check_changes(
    accelerator: Accelerator, config: RunConfig, tokenizer: PreTrainedTokenizerBase, checkpoint: Path | None
) -> list[str]:
    """A table of the options that differ from those of the run that `checkpoint` belongs to, line by line.

    Called on every process. InputError on all of them: options that change what the weights mean, and train.resume is
    not given.
    """
    lines: list[str] = []
    problem = None
    if accelerator.is_main_process and checkpoint is not None:
        try:
            lines = _compare(config, tokenizer, checkpoint)
        except InputError as error:
            problem = str(error)
    raise_together(problem)
    return gather_object([lines])[0]


def _compare(config: RunConfig, tokenizer: PreTrainedTokenizerBase, checkpoint: Path) -> list[str]:
    if not _has_config(checkpoint):
        return [f"{checkpoint} lies in no run with a config.yaml: which options have changed cannot be told"]
    given = config.train.resume is not None
    try:
        changes = [*changed_options(config, _said_of(checkpoint)), *_changed_words(tokenizer, checkpoint)]
    except InputError as error:
        if given:
            return [f"which options have changed cannot be told: {error}"]
        raise InputError(f"{error}; to go on without a look at it, give --train.resume auto") from error
    telling = [f"{change.name} (was {change.was}, is {change.now})" for change in changes if not change.free]
    if telling and not given:
        raise InputError(
            f"train.resume: not given, but {checkpoint} was trained with other options than these: "
            f"{', '.join(telling)}; take those of {run_folder_of(str(checkpoint)) / 'config.yaml'}, another output_dir, "
            f"or give --train.resume auto to go on with these"
        )
    return change_table(changes)


def changed_options(config: RunConfig, said: dict) -> list[Change]:
    """What differs between a run's saved configuration and `config`. What it does not name was the default."""
    defaults = {name: value for name, value, _ in _options(type(config)())}
    found = []
    for name, now, free in _options(config):
        was = option(said, name) if _names(said, name) else defaults[name]
        if was != now and name != "train.resume":
            found.append(Change(name, was, now, free))
    if option(said, "task") is not None and not hasattr(config, "task"):
        found.append(Change("task", option(said, "task"), "pre-training", False))
    return found


def change_table(changes: list[Change]) -> list[str]:
    """As lines: option, was, is."""
    rows = [("option", "was", "is")] + [(change.name, str(change.was), str(change.now)) for change in changes]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"  {name:<{widths[0]}}  {was:<{widths[1]}}  {now}" for name, was, now in rows]
    return ["options that are not what they were so far:", *lines] if changes else []


def _options(section: Any, prefix: str = "", free: bool = False) -> Iterator[tuple[str, Any, bool]]:
    """(name, plain value, is it FREE) of every option; one for each field of a list of sections: data.train[].shards."""
    for field in fields(section):
        name, value = f"{prefix}{field.name}", getattr(section, field.name)
        is_free = free or field.metadata == FREE
        if is_dataclass(value):
            yield from _options(value, f"{name}.", is_free)
        elif isinstance(value, list) and any(map(is_dataclass, value)):
            for item in fields(value[0]):
                values = [getattr(one, item.name) for one in value]
                yield f"{name}[].{item.name}", values, is_free or item.metadata == FREE
        else:
            yield name, _plain(value), is_free


def _names(said: dict, name: str) -> bool:
    """Is the option there, if with the value null?"""
    section, _, last = name.split("[]")[0].rpartition(".")
    found = option(said, section) if section else said
    return isinstance(found, dict) and last in found


def _plain(value: Any) -> Any:
    """As YAML gives it back, which knows no tuples."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _changed_words(tokenizer: PreTrainedTokenizerBase, checkpoint: Path) -> list[Change]:
    """Tokenizers of two places may be the same, and one of one place another than it was: what counts are its words."""
    kept = run_folder_of(str(checkpoint)) / "tokenizer"
    if not kept.is_dir() or load_tokenizer(str(kept)).get_vocab() == tokenizer.get_vocab():
        return []
    return [Change("words of model.text.tokenizer", f"those of {kept}", f"{len(tokenizer):,} others", False)]


def _has_config(checkpoint: Path) -> bool:
    return run_folder_of(str(checkpoint)) is not None


def _said_of(checkpoint: Path) -> dict:
    return read_options(run_folder_of(str(checkpoint)) / "config.yaml")
