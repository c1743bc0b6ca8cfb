"""The command lines of `tcl pretrain`, and of `tcl finetune` and `tcl evaluate`: which task, with the model of its
initial weights."""

import importlib
from functools import partial

from tcl.checkpoints.initial import model_of_run
from tcl.config.command_line import Given, given_by, help_if_asked, parse_config, read_options, resolve
from tcl.errors import InputError
from tcl.tasks import TASKS, pretrain
from tcl.tasks.task import BuildTask, RunConfig


def parse_pretrain(arguments: list[str]) -> pretrain.Config:
    """The configuration of `tcl pretrain`; see `parse_config`."""
    return parse_config(arguments, pretrain.Config, pretrain.check, "tcl pretrain")


def parse_finetune(arguments: list[str], trains: bool = True) -> tuple[RunConfig, BuildTask]:
    """`--config file.yaml --init run ...` -> the checked configuration of its task, and what builds the task.

    trains: data to train on are needed, as they are not for an evaluation. InputError: no task, or an unknown one, and
    as `parse_config`.
    """
    command = f"tcl {'finetune' if trains else 'evaluate'}"
    helping = {"-h", "--help"} & set(arguments)
    options = read_options([argument for argument in arguments if argument not in helping], command)
    task = _last_said("task", options)
    if task not in TASKS:
        raise InputError(
            f"task: {task!r} is not possible; accepted: {', '.join(TASKS)}, in the file of --config or as --task"
        )
    module = importlib.import_module(f"tcl.tasks.{task}")
    program = f"{command} --task {task}"
    help_if_asked(arguments, module.Config, program)
    given = given_by(options, module.Config, program)
    init = _last_said("init", options)
    if init is not None:
        text = next((True for one in given if "name" in _section(_section(one.said, "model"), "text")), False)
        model = model_of_run(str(init), names_text_encoder=text)
        given = [Given(f"{init}: ", {"model": model}), *given] if model is not None else given
    return resolve(given, module.Config, partial(module.check, trains=trains)), module.build


def _last_said(name: str, options: list[tuple[str, list[str]] | Given]) -> object:
    """What was said last of a field outside of all sections; None: nothing."""
    said = None
    for one in options:
        if isinstance(one, Given):
            said = one.said.get(name, said)
        elif one[0] == name and one[1]:
            said = None if one[1][-1] == "null" else one[1][-1]
    return said


def _section(said: dict, name: str) -> dict:
    """What is said there may be no section; that is refused later."""
    found = said.get(name)
    return found if isinstance(found, dict) else {}
