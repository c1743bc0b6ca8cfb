"""What a run says of the model that it trained: its configuration, and the facts for the model card."""

import json
import os
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from tcl.checkpoints.export_format import ExportConfig
from tcl.checkpoints.typed_section import decode, warn_of_older
from tcl.config import ModelConfig
from tcl.data.answer_list import read_answer_list
from tcl.errors import InputError
from tcl.runs.history import option, stages_of
from tcl.runs.metrics_file import read_metrics


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
        if (folder / "config.yaml").is_file() and (folder / "checkpoints").is_dir():
            return folder
    return None


def config_of_run(run: Path) -> tuple[ExportConfig, list[str] | None]:
    """What the run trained, and the closed list of answers of VQA.

    Its tokenizer is the copy in the run's folder. InputError: config.yaml is not one that a run of this version would
    leave, or the list of answers is gone.
    """
    said, path = _read_config(run), str(run / "config.yaml")
    absent: dict[str, Any] = {}
    model = decode(ModelConfig, said["model"], path, absent, "model.")
    model.image.pretrained = model.text.pretrained = False
    if (run / "tokenizer").is_dir():
        model.text.tokenizer = str(run / "tokenizer")
    warn_of_older(run / "config.yaml", absent)
    texts = {name: said["data"].get(name) for name in ("max_tokens", "max_words")}
    for name, value in texts.items():
        if not isinstance(value, int):
            raise InputError(f"{path}: data.{name} is {value!r}; accepted: an integer, with which the run was trained")
    if said.get("task") != "vqa":
        return ExportConfig("tcl", model, **texts), None
    named = said["answers"].get("list")
    if named is not None and not Path(named).is_file():
        raise InputError(f"{path}: answers.list {named!r} is not there; start where training started, or put it there")
    answers = read_answer_list(Path(named), f"{path}: answers.list") if named is not None else None
    return ExportConfig("vqa", model, **texts, decoder_layers=said["answers"].get("decoder_layers")), answers


def facts_of_run(run: Path, checkpoint: Path) -> RunFacts:
    """For the card of the weights in `checkpoint`, a step_* folder of `run`: what holds for them, whatever the run has
    done since."""
    steps = json.loads((checkpoint / "progress.json").read_text())["step"]
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


def _read_config(run: Path) -> dict:
    path = run / "config.yaml"
    try:
        said = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error
    sections = (
        ("model", "data", "answers") if isinstance(said, dict) and said.get("task") == "vqa" else ("model", "data")
    )
    for name in sections:
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
