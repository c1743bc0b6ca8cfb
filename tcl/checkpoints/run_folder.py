"""What a run says of the model that it trained: its configuration, and the facts for the model card."""

import os
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tcl.checkpoints.export_format import ExportConfig, check_self_contained, read_description
from tcl.config.model import ModelConfig, check_model
from tcl.errors import InputError
from tcl.plain_values import read_json, read_yaml
from tcl.runs.history import option, stages_of
from tcl.runs.metrics_file import read_metrics
from tcl.typed_section import decode, typed

MODEL = "model.json"
"""In a run's folder: what its checkpoints can be built from, as an export's config.json."""


@dataclass
class RunFacts:
    """Where weights come from, for people."""

    origin: str
    """What made the weights, a phrase."""
    data: list[str] = field(default_factory=list)
    """Shards of the training data."""
    steps: int | None = None
    """Optimiser steps."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options that people ask for, by their config fields."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Of the last evaluation up to these steps."""


def run_folder_of(path: str) -> Path | None:
    """The run whose config.yaml and tokenizer belong to the weights at `path`; None where there is no such run."""
    place = Path(os.path.abspath(path))  # `step_N` alone has no parents; a folder that is a link stays where it is
    for folder in (place, *place.parents[:3]):
        if os.path.isfile(folder / "config.yaml") and os.path.isdir(folder / "checkpoints"):
            return folder
    return None


def model_of_run(run: Path, *, names_text_encoder: bool = False) -> ModelConfig:
    """The model that the run trained; names_text_encoder: model.text.name is replaced afterwards, by one that the user
    typed.

    Anybody may have written the folder: its tokenizer is the copy in it, and nothing that it names elsewhere, on disk
    or on the hub, is followed. InputError: the description is not one that a run of this version would leave.
    """
    if (run / MODEL).is_file():
        return read_run_model(run).model
    path = run / "config.yaml"
    model = decode(ModelConfig, read_run_config(run)["model"], str(path), {}, "model.")
    if names_text_encoder:
        model.text.name = "bert"
    make_self_contained(model, tokenizer_of(run), path)
    return model


def read_run_model(run: Path) -> ExportConfig:
    """What MODEL of the run, where it is, says. InputError: not what a run of this version leaves, or no tokenizer."""
    config = read_description(run / MODEL, run / "tokenizer")
    if config.reads_text:
        tokenizer_of(run)
    return config


def tokenizer_of(run: Path) -> Path:
    """The run's copy of its tokenizer. InputError: there is none."""
    if not (run / "tokenizer").is_dir():
        raise InputError(
            f"{run} has no folder `tokenizer`, and one that its config.yaml names elsewhere is not followed; put the "
            f"run's tokenizer there"
        )
    return run / "tokenizer"


def make_self_contained(model: ModelConfig, tokenizer: Path, path: Path) -> None:
    """A run before MODEL was written: its own weights and the tokenizer beside it replace what it started from."""
    model.image.pretrained = model.text.pretrained = False
    model.text.tokenizer = str(tokenizer)
    check_self_contained(model, path)
    check_model(model)


def facts_of_run(run: Path, checkpoint: Path) -> RunFacts:
    """For the card of the weights in `checkpoint`, a step_* folder of `run`: what holds for them, whatever the run has
    done since."""
    progress = read_json(checkpoint / "progress.json", "source")
    steps = typed(
        progress.get("step") if isinstance(progress, dict) else None, int, f"{checkpoint}/progress.json: step"
    )
    stages = stages_of(run, steps)
    task = option(stages[-1][1], "task")
    shards = [place for _, said in stages for place in option(said, "data.train[].shards") or []]
    names = ("seed", "train.batch_size", "train.accumulate_steps", "optim.lr", "data.val")
    return RunFacts(
        origin=f"fine-tuning on {task}" if task is not None else "pre-training",
        data=list(dict.fromkeys(str(place) for place in shards)),
        steps=steps,
        options={"init": option(stages[0][1], "init")} | {name: _over_stages(stages, name) for name in names},
        metrics=_last_metrics(run / "metrics.jsonl", steps),
    )


def _over_stages(stages: list[tuple[int, dict]], name: str) -> Any:
    """The value of an option, or all that it had: '64 up to step 500, then 128'."""
    values = [(first, option(said, name)) for first, said in stages]
    changes = [values[0]] + [now for was, now in pairwise(values) if now[1] != was[1]]
    if len(changes) == 1:
        return values[0][1]
    ends = [f"{value} up to step {until}" for (_, value), (until, _) in pairwise(changes)]
    return f"{', then '.join(ends)}, then {changes[-1][1]}"


def read_run_config(run: Path) -> dict:
    """What config.yaml of the run says, as plain values. InputError: it has no sections `model` and `data`."""
    path = run / "config.yaml"
    said = read_yaml(path, "source")
    for name in ("model", "data"):
        if not isinstance(said, dict) or not isinstance(said.get(name), dict):
            raise InputError(f"{path}: no `{name}` section; give the folder of a run as it was left")
    return said


def _last_metrics(path: Path, steps: int) -> dict[str, float]:
    """eval_* of the last row of metrics.jsonl that has any, at most at `steps`; damaged rows are passed over."""
    found: dict[str, float] = {}
    for row in read_metrics(path).rows:
        evaluated = {
            name.removeprefix("eval_"): value
            for name, value in row.items()
            if name.startswith("eval_") and isinstance(value, int | float)
        }
        if evaluated and row["step"] <= steps:
            found = evaluated
    return found
