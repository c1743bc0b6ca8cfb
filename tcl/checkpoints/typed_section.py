"""Sections of a JSON or YAML file as typed dataclasses, where the file may be older than the dataclass, or forged.

Nothing in the file can name a class or a function.
"""

import typing
import warnings
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.dataclasses import type_validator

from tcl.errors import InputError


def decode(kind: type, said: Any, path: str, absent: dict[str, Any], prefix: str = "") -> Any:
    """`said`, from JSON or YAML, as the dataclass `kind`; fields that it lacks take their defaults.

    Those, with their defaults, are added to `absent`. InputError, naming the file `path` and the field: unknown, of
    another type, or without a default.
    """
    if not isinstance(said, dict):
        raise InputError(f"{path}: {prefix.rstrip('.') or 'the whole'} is {said!r}; accepted: a section of fields")
    known = {field.name: field for field in fields(kind)}
    unknown = sorted(said.keys() - known.keys())
    if unknown:
        raise InputError(
            f"{path}: {prefix}{unknown[0]} is not known to this version of tcl, which has {', '.join(known)}; it was "
            f"renamed, removed or misspelt"
        )
    hints, values = typing.get_type_hints(kind), {}
    for name, field in known.items():
        if name not in said:
            if field.default is MISSING and field.default_factory is MISSING:
                raise InputError(f"{path}: {prefix}{name} is not there; accepted: {hints[name]}")
            default = field.default if field.default is not MISSING else field.default_factory()
            absent[f"{prefix}{name}"] = default
        elif is_dataclass(hints[name]):
            values[name] = decode(hints[name], said[name], path, absent, f"{prefix}{name}.")
        else:
            values[name] = _checked(said[name], hints[name], f"{path}: {prefix}{name}")
    return kind(**values)


def _checked(value: Any, hint: Any, place: str) -> Any:
    """JSON and YAML know no tuples."""
    value = tuple(value) if isinstance(value, list) else value
    try:
        type_validator(place, value, hint)
    except TypeError as error:
        raise InputError(f"{place} is {value!r}; accepted: {hint}") from error
    return value


def warn_of_older(path: Path, absent: dict[str, Any]) -> None:
    """Say which fields the file `path` lacks, and what is taken instead."""
    if absent:
        taken = ", ".join(f"{name} is taken as {default!r}" for name, default in absent.items())
        warnings.warn(f"{path} is older than this version of tcl: {taken}", stacklevel=3)
