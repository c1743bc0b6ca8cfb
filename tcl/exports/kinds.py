"""The kinds of students that there are: what files of tcl.objectives and tcl.tasks declare as KIND."""

from pathlib import Path
from typing import Any

from tcl import objectives, tasks
from tcl.checkpoints.export_format import ExportConfig
from tcl.declared import declared, names_declared
from tcl.errors import InputError
from tcl.objectives.kind import Kind
from tcl.runs.history import option
from tcl.tasks import task_names
from tcl.typed_section import decode


def kind_named(name: object, place: str) -> Kind:
    """InputError, which begins with `place`: nothing declares a kind of that name."""
    kind = declared(objectives, "KIND", name) or declared(tasks, "KIND", name)
    if kind is None:
        accepted = ", ".join(sorted(names_declared(objectives, "KIND") + names_declared(tasks, "KIND")))
        raise InputError(f"{place}: kind {name!r} is none that this version of tcl knows; accepted: {accepted}")
    return kind


def kind_of_run(said: dict[str, Any], path: Path) -> Kind:
    """Of what a run's config.yaml, at `path`, says. InputError: an unknown task."""
    task = option(said, "task")
    if task is None:
        return kind_named(option(said, "objective.name") or "tcl", str(path))
    if task not in task_names():
        raise InputError(f"{path}: task {task!r} is none that this version of tcl knows; accepted: {task_names()}")
    return declared(tasks, "KIND", task) or kind_named(option(said, "objective.name") or "tcl", str(path))


def parts_of(kind: Kind, config: ExportConfig, place: str) -> Any:
    """The parts of `config`, which is of `kind`, checked. InputError: unknown ones, or values that cannot be."""
    parts = decode(kind.Parts, config.parts, place, {})
    parts.check(place)
    return parts
