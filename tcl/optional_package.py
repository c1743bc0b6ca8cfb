"""Packages of an optional dependency group: imported where they are needed, missed in one line."""

from importlib import import_module
from types import ModuleType

from tcl.errors import InputError


def import_optional(name: str, group: str) -> ModuleType:
    """The module `name`, of the dependency group `group` in pyproject.toml. InputError: it is not installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(f"{name}: not installed; run pip install 'tcl-vlp[{group}]'") from error
