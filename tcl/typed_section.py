"""Sections of a JSON or YAML file, or of a command line, as typed dataclasses.

The file may be older than the dataclass, or forged: its values are plain ones (tcl.plain_values), and nothing in it can
name a class or a function.
"""

import difflib
import math
import os
import types
import typing
import warnings
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from tcl.errors import InputError

MOST = 2**53
"""The largest whole number, which every JSON reader keeps as it is."""
LONGEST = 4096
"""Characters of a text: no path is longer."""


def decode(kind: type, said: Any, path: str, absent: dict[str, Any], prefix: str = "") -> Any:
    """`said`, from JSON or YAML, as the dataclass `kind`; fields that it lacks take their defaults.

    Those, with their defaults, are added to `absent`. InputError, naming the file `path` and the field: unknown, of
    another type, or without a default.
    """
    return filled(kind, checked(kind, said, f"{path}: ", prefix), f"{path}: ", absent, prefix)


def checked(kind: type, said: Any, place: str, prefix: str = "") -> dict[str, Any]:
    """The fields of `kind` that `said` has, each of its type: sections stay dicts, lists of sections are made.

    place: what messages begin with. prefix: of field names. InputError: an unknown field, another type.
    """
    if not isinstance(said, dict):
        raise InputError(f"{place}{prefix.rstrip('.') or 'the whole'} is {_short(said)}; accepted: a section of fields")
    hints, values = typing.get_type_hints(kind), {}
    for name, value in said.items():
        if name not in hints:
            meant = nearest(kind, f"{prefix}{name}", prefix)
            raise InputError(f"{place}{prefix}{_short_name(name)} is not known to this version of tcl{meant}")
        if is_dataclass(hints[name]):
            values[name] = checked(hints[name], value, place, f"{prefix}{name}.")
        else:
            values[name] = typed(value, hints[name], f"{place}{prefix}{name}")
    return values


def filled(
    kind: type, given: dict[str, Any], place: str, absent: dict[str, Any], prefix: str = "", default: Any = None
) -> Any:
    """The dataclass `kind` with what `checked` gave, other fields as in `default` (None: as the class says).

    Those are added to `absent`, unless they are AS_BEFORE (tcl.config.free). InputError: a field without a default.
    """
    values = {}
    for field in fields(kind):
        own = _default(field) if default is None else getattr(default, field.name)
        if field.name not in given:
            if own is MISSING:
                raise InputError(f"{place}{prefix}{field.name} is not there; accepted: {accepted(_hint(kind, field))}")
            values[field.name] = own
            if field.metadata.get("where_absent") != "as before":
                absent[f"{prefix}{field.name}"] = own
        elif is_dataclass(_hint(kind, field)):
            inner = None if own is MISSING else own
            values[field.name] = filled(
                _hint(kind, field), given[field.name], place, absent, f"{prefix}{field.name}.", inner
            )
        else:
            values[field.name] = given[field.name]
    return kind(**values)


def merged(kind: type, first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """What `checked` gave twice as one: the second wins, section by section."""
    hints = typing.get_type_hints(kind)
    both = {name for name in first.keys() & second.keys() if is_dataclass(hints[name])}
    return first | second | {name: merged(hints[name], first[name], second[name]) for name in both}


def typed(value: Any, hint: Any, place: str) -> Any:
    """A plain value as the type `hint` asks for it; JSON and YAML know no tuples. InputError, naming `place`.

    A list may be given as its only item, and a section with one field that has no default as the value of that field.
    """
    if hint is Any:
        return _plain(value, place)
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for kind in inner:
            if _fits(value, kind):
                return typed(value, kind, place)
        raise refusal(value, hint, place)
    if origin is list:
        items = value if isinstance(value, list) else [value]
        return [typed(item, inner[0], f"{place}[{i}]" if len(items) > 1 else place) for i, item in enumerate(items)]
    if origin is tuple and isinstance(value, (list, tuple)) and len(value) == len(inner):
        return tuple(typed(item, kind, place) for item, kind in zip(value, inner, strict=True))
    if origin is dict and isinstance(value, dict):
        return {name: typed(item, inner[1], f"{place}.{_short_name(name)}") for name, item in value.items()}
    if is_dataclass(hint):
        needed = [field.name for field in fields(hint) if _default(field) is MISSING]
        if isinstance(value, str) and len(needed) == 1:
            value = {needed[0]: value}
        return filled(hint, checked(hint, value, "", f"{place}."), "", {}, f"{place}.")
    if not _fits(value, hint):
        raise refusal(value, hint, place)
    return float(_bounded(value, place)) if hint is float else _bounded(value, place)


def _fits(value: Any, hint: Any) -> bool:
    """Is `value` of the type `hint`, but for what is inside of it? A boolean is no number."""
    origin = typing.get_origin(hint)
    if hint is Any:
        return not isinstance(value, dict)
    if hint is types.NoneType:
        return value is None
    if origin is Literal:
        return any(value == one and type(value) is type(one) for one in typing.get_args(hint))
    if hint in (int, float):
        return isinstance(value, (int, float) if hint is float else int) and not isinstance(value, bool)
    if origin is tuple:
        return isinstance(value, (list, tuple)) and len(value) == len(typing.get_args(hint))
    return isinstance(value, origin or hint)


def _plain(value: Any, place: str) -> Any:
    """A value whose type is for others to say: number, text, boolean, null, or a list of them."""
    if isinstance(value, (list, tuple)):
        for item in value:
            if isinstance(item, (list, tuple)):
                raise refusal(value, Any, place)
            _plain(item, place)
        return list(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float, str)):
        return _bounded(value, place)
    raise refusal(value, Any, place)


def _bounded(value: Any, place: str) -> Any:
    if isinstance(value, str) and not _can_be_path(value):
        raise InputError(f"{place} is {_short(value)}; accepted: a text of at most {LONGEST:,} characters of Unicode")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{place}: {value!r} is not possible; accepted: a finite number")
    if isinstance(value, int) and abs(value) > MOST:
        raise InputError(f"{place}: {_short(value)} is not possible; accepted: whole numbers of at most {MOST:,}")
    return value


def _can_be_path(text: str) -> bool:
    """Bytes of a path that are no UTF-8 are halves of surrogate pairs here, which Python turns into bytes again."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return "\0" not in text and len(text) <= LONGEST


def refusal(value: Any, hint: Any, place: str) -> InputError:
    """For a value of another type than `hint`."""
    return InputError(f"{place} is {_short(value)}; accepted: {accepted(hint)}")


def accepted(hint: Any) -> str:
    """What a value of type `hint` may be, for people."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(accepted(kind) for kind in inner)
    if origin is Literal:
        return ", ".join(map(str, inner))
    if origin is tuple:
        return f"[{', '.join(accepted(kind) for kind in inner)}]"
    if origin is list:
        return f"a list of {accepted(inner[0])}"
    if is_dataclass(hint):
        return f"{{{', '.join(field.name for field in fields(hint))}}}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", types.NoneType: "null"}
    names |= {dict: "a section such as {depth: 6}", Any: "a number, a text, true, false, null, or a list of them"}
    return names[origin or hint]


def nearest(kind: type, name: str, prefix: str = "") -> str:
    """The end of a message on an unknown field `name`: the one that may be meant, or those that there are."""
    known = [f"{prefix}{one}" for one in options_of(kind)]
    near = difflib.get_close_matches(name[:200], known, n=1, cutoff=0.75)
    if near:
        return f"; did you mean {near[0]}?"
    return f", which has {', '.join(field.name for field in fields(kind))}; it was renamed, removed or misspelt"


def options_of(kind: type) -> list[str]:
    """The names of all fields, those of sections behind theirs and a dot, sections themselves included."""
    found = []
    for name, hint in typing.get_type_hints(kind).items():
        found.append(name)
        if is_dataclass(hint):
            found += [f"{name}.{inner}" for inner in options_of(hint)]
    return found


def _hint(kind: type, field: Field) -> Any:
    return typing.get_type_hints(kind)[field.name]


def _default(field: Field) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 200 else f"{said[:200]}..."


def _short_name(name: str) -> str:
    return name if len(name) <= 200 else f"{name[:200]}..."


def warn_of_older(path: Path, absent: dict[str, Any]) -> None:
    """Say which fields the file `path` lacks, and what is taken instead."""
    if absent:
        taken = ", ".join(f"{name} is taken as {default!r}" for name, default in absent.items())
        warnings.warn(f"{path} is older than this version of tcl: {taken}", stacklevel=3)
