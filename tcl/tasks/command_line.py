"""The command line of `tcl finetune` and `tcl evaluate`: which task, with the model of its initial weights."""

import argparse
import importlib
import tempfile
from functools import partial
from pathlib import Path

import yaml

from tcl.checkpoints.initial import model_of_run
from tcl.command_line import parse_config
from tcl.errors import InputError
from tcl.tasks import TASKS
from tcl.training.task import BuildTask, RunConfig


def parse_finetune(arguments: list[str], trains: bool = True) -> tuple[RunConfig, BuildTask]:
    """`--config file.yaml --init run ...` -> the checked configuration of its task, and what builds the task.

    trains: data to train on are needed, as they are not for an evaluation. InputError: no task, or an unknown one, and
    as `parse_config`.
    """
    task, init = _task_and_init(arguments)
    if task not in TASKS:
        raise InputError(
            f"task: {task!r} is not possible; accepted: {', '.join(TASKS)}, in the file of --config or as --task"
        )
    module = importlib.import_module(f"tcl.tasks.{task}")
    program = f"tcl {'finetune' if trains else 'evaluate'} --task {task}"
    check = partial(module.check, trains=trains)
    model = model_of_run(init) if init is not None else None
    if model is None:
        return parse_config(arguments, module.Config, check, program), module.build
    with tempfile.TemporaryDirectory() as folder:
        defaults = Path(folder) / "model_of_init.yaml"
        defaults.write_text(yaml.safe_dump({"model": model}))
        first = ["--config", str(defaults)]  # what the user says comes later and wins
        return parse_config(first + arguments, module.Config, check, program), module.build


def _task_and_init(arguments: list[str]) -> tuple[str | None, str | None]:
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--config", action="append", default=[])
    early.add_argument("--task")
    early.add_argument("--init")
    given, _ = early.parse_known_args(arguments)
    said: dict = {}
    for path in given.config:
        try:
            content = yaml.safe_load(Path(path).read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(
                f"config: {path} cannot be read ({' '.join(str(error).split())}); give a YAML file"
            ) from error
        said |= content if isinstance(content, dict) else {}
    init = given.init or said.get("init")
    return given.task or said.get("task"), None if init is None else str(init)
