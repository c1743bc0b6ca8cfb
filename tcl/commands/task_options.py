"""The command lines of `tcl pretrain`, and of `tcl finetune` and `tcl evaluate`: which task, with the model of its
initial weights."""

from dataclasses import field, make_dataclass
from functools import partial, reduce
from pathlib import Path

from tcl.checkpoints.initial import model_of_run
from tcl.config.command_line import Given, given_by, help_if_asked, read_options, resolve
from tcl.errors import InputError
from tcl.objectives.pair_objective import objective_named
from tcl.tasks import pretrain, task_named, task_names
from tcl.tasks.task import BuildTask, RunConfig


def parse_pretrain(arguments: list[str]) -> pretrain.Config:
    """`--config file.yaml --train.steps 100 ...`, of which later ones win -> the checked configuration.

    Its section `objective` is that of the one that is named (`--objective clip`). --help prints all and exits.

    InputError: an unknown key, a wrong type, an impossible value.
    """
    command = "tcl pretrain"
    options = _with_name(read_options(_without_help(arguments), command))
    kind, options = _with_objective(pretrain.Config, options)
    help_if_asked(arguments, kind, command)
    return resolve(_with_model_of_init(given_by(options, kind, command), options), kind, pretrain.check)


def parse_finetune(arguments: list[str], trains: bool = True) -> tuple[RunConfig, BuildTask]:
    """`--config file.yaml --init run ...` -> the checked configuration of its task, and what builds the task.

    trains: data to train on are needed, as they are not for an evaluation. InputError: no task, or an unknown one, and
    as `parse_pretrain`.
    """
    command = f"tcl {'finetune' if trains else 'evaluate'}"
    options = _with_name(read_options(_without_help(arguments), command))
    task = _last_said("task", options)
    if task not in task_names():
        accepted = ", ".join(task_names())
        raise InputError(f"task: {task!r} is not possible; accepted: {accepted}, in the file of --config or as --task")
    module = task_named(task)
    kind, options = _with_objective(module.Config, options)
    program = f"{command} --task {task}"
    help_if_asked(arguments, kind, program)
    given = _with_model_of_init(given_by(options, kind, program), options)
    return resolve(given, kind, partial(module.check, trains=trains)), module.build


Option = tuple[str, list[str]] | Given


def _with_name(options: list[Option]) -> list[Option]:
    """A run is called as the last file of --config, where nothing is said of its output_dir."""
    files = [Path(one.file) for one in options if isinstance(one, Given) and one.file is not None]
    if not files:
        return options
    return [Given("", {"output_dir": f"runs/{files[-1].stem}-{{date}}-{{n}}"}), *options]


def _with_model_of_init(given: list[Given], options: list[Option]) -> list[Given]:
    """What was said, after the `model` section of the run or export that `init` names, where it has one."""
    init = _last_said("init", options)
    if init is None:
        return given
    text = next((True for one in given if "name" in _section(_section(one.said, "model"), "text")), False)
    model = model_of_run(str(init), names_text_encoder=text)
    return given if model is None else [Given(f"{init}: ", {"model": model}), *given]


def _without_help(arguments: list[str]) -> list[str]:
    return [argument for argument in arguments if argument not in ("-h", "--help")]


def _with_objective(kind: type, options: list[Option]) -> tuple[type, list[Option]]:
    """`kind`, a Config of tcl.tasks, with the section of the objective that is named, where it has a choice of them.

    There `objective: clip`, in a file or on the command line, is short for that name in the section.
    """
    default = getattr(kind(), "objective", None)
    if not hasattr(default, "name"):
        return kind, options
    options = [_spelt_out(one) for one in options]
    chosen = objective_named(_last_said("objective.name", options) or default.name).Config
    if isinstance(default, chosen):
        return kind, options
    section = [("objective", chosen, field(default_factory=chosen))]
    return make_dataclass(kind.__name__, section, bases=(kind,), namespace={"__doc__": kind.__doc__}), options


def _spelt_out(one: Option) -> Option:
    if not isinstance(one, Given):
        is_name = one[0] == "objective" and one[1] and not one[1][0].startswith("{")
        return ("objective.name", one[1]) if is_name else one
    name = one.said.get("objective")
    return one._replace(said=one.said | {"objective": {"name": name}}) if isinstance(name, str) else one


def _last_said(name: str, options: list[Option]) -> object:
    """What was said last of a field outside of all sections, or in one; None: nothing."""
    said = None
    for one in options:
        if isinstance(one, Given):
            *sections, last = name.split(".")
            said = reduce(_section, sections, one.said).get(last, said)
        elif one[0] == name and one[1]:
            said = None if one[1][-1] == "null" else one[1][-1]
    return said


def _section(said: dict, name: str) -> dict:
    """What is said there may be no section; that is refused later."""
    found = said.get(name)
    return found if isinstance(found, dict) else {}
