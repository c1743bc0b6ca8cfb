"""The kinds of students that there are: what the files of tcl.objectives and tcl.tasks declare as KIND."""

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tcl import objectives, tasks
from tcl.checkpoints.export_format import ExportConfig
from tcl.errors import InputError
from tcl.objectives.kind import Kind
from tcl.runs.history import option
from tcl.tasks import task_named, task_names
from tcl.typed_section import decode


def kind_named(name: object, place: str) -> Kind:
    """InputError, which begins with `place`: nothing declares a kind of that name."""
    kinds = {kind.name: kind for kind in _declared()}
    if not isinstance(name, str) or name not in kinds:
        accepted = ", ".join(sorted(kinds))
        raise InputError(f"{place}: kind {name!r} is none that this version of tcl knows; accepted: {accepted}")
    return kinds[name]


def kind_of_run(said: dict[str, Any], path: Path) -> Kind:
    """Of what a run's config.yaml, at `path`, says. InputError: an unknown task."""
    task = option(said, "task")
    if task is None:
        return kind_named(option(said, "objective.name") or "tcl", str(path))
    if task not in task_names():
        raise InputError(f"{path}: task {task!r} is none that this version of tcl knows; accepted: {task_names()}")
    own = getattr(task_named(task), "KIND", None)
    return own or kind_named(option(said, "objective.name") or "tcl", str(path))


def parts_of(config: ExportConfig, place: str) -> Any:
    """The parts of `config`, checked. InputError: unknown ones, or values that cannot be."""
    parts = decode(kind_named(config.kind, place).Parts, config.parts, place, {})
    parts.check(place)
    return parts


def _declared() -> Iterator[Kind]:
    for package in (objectives, tasks):
        for module in pkgutil.iter_modules(package.__path__):
            kind = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "KIND", None)
            if kind is not None:
                yield kind
