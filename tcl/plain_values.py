"""YAML and JSON from outside as plain values: numbers, texts, booleans, null, lists of them and sections by name.

Nothing in such a text can name a class, a function or a file, and what it costs is bounded before it is spent: its
bytes, how deep it nests, and how many values its aliases stand for.
"""

import json
import math
import os
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, NoReturn

import yaml

from tcl.errors import InputError

MAX_BYTES = 2**19
"""Of a YAML file, or of a value on the command line."""
MAX_JSON_BYTES = 2**24
"""Of a JSON file: the position of a run in its data grows with its processes and workers."""
MAX_DEPTH = 32
"""Sections and lists within each other."""
MAX_VALUES = 100_000
"""Of a YAML text, each alias counted as all that it stands for."""
_MAX_DIGITS = 400
"""Of a number: a float ends at 309 digits."""

_TAG = "tag:yaml.org,2002:"
_LISTS, _SECTIONS, _MERGE = _TAG + "seq", _TAG + "map", _TAG + "merge"
_SCALARS = {_TAG + kind for kind in ("null", "bool", "int", "float", "str")}
_INT = re.compile(r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]*|[1-9][0-9_]*)$")
_FLOAT = re.compile(
    r"(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|"
    r"[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_CHANGED = (_TAG + "timestamp", _TAG + "value", _TAG + "int", _TAG + "float")


def _own_resolvers(kind: type) -> type:
    """YAML 1.1 with the floats of 1.2 (1e-4 is one), and without its dates and numbers to the base of 60."""
    kind.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag not in _CHANGED]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    kind.add_implicit_resolver(_TAG + "int", _INT, list("-+0123456789"))
    kind.add_implicit_resolver(_TAG + "float", _FLOAT, list("-+0123456789."))
    return kind


@_own_resolvers
class _Loader(yaml.SafeLoader):
    """Composes nodes no deeper than MAX_DEPTH. It never constructs lists or sections: aliases are counted by us."""

    depth = 0

    def compose_node(self, parent, index):
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.YAMLError(f"it nests more than {MAX_DEPTH} deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


@_own_resolvers
class _Dumper(yaml.SafeDumper):
    """Quotes what _Loader would take for another kind of value."""


def read_yaml(path: str | Path, place: str) -> Any:
    """The plain value that the YAML file `path` holds; None: it is empty.

    InputError, which begins with `place`: it cannot be read, is no UTF-8 (a byte-order mark is accepted) or no YAML,
    holds other than plain values, the same name twice, a value within itself, or more than the bounds allow.
    """
    return parse_yaml(_read(path, place, MAX_BYTES), f"{place}: {path}")


def parse_yaml(text: str, place: str) -> Any:
    """As `read_yaml`, of a text."""
    if len(text) > MAX_BYTES:
        raise InputError(f"{place} is longer than {MAX_BYTES:,} characters; accepted: plain YAML of less")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        return None if node is None else _Values(loader).of(node, ())
    # PyYAML raises the others for numbers without digits and for characters beyond Unicode.
    except (yaml.YAMLError, ValueError, IndexError, OverflowError) as error:
        said = " ".join(str(error).split()).replace('in "<unicode string>", ', "at ")
        raise InputError(f"{place} cannot be read ({said}); accepted: plain YAML") from error


class _Values:
    """From nodes to values, each counted whenever it is met."""

    def __init__(self, loader: _Loader):
        self.loader, self.met = loader, 0

    def of(self, node: yaml.Node, within: tuple[int, ...]) -> Any:
        """within: the ids of the nodes that hold `node`."""
        self.met += 1
        if self.met > MAX_VALUES:
            raise yaml.YAMLError(f"with its aliases it stands for more than {MAX_VALUES:,} values")
        if id(node) in within:
            raise yaml.YAMLError("a value holds itself")
        if len(within) > MAX_DEPTH:
            raise yaml.YAMLError(f"it nests more than {MAX_DEPTH} deep")
        if isinstance(node, yaml.MappingNode) and node.tag == _SECTIONS:
            return self._section(node, (*within, id(node)))
        if isinstance(node, yaml.SequenceNode) and node.tag == _LISTS:
            return [self.of(item, (*within, id(node))) for item in node.value]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            return _scalar(self.loader, node)
        raise yaml.YAMLError(f"{node.tag} is no plain value")

    def _section(self, node: yaml.MappingNode, within: tuple[int, ...]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                found = self.of(value, within)
                for section in found if isinstance(found, list) else [found]:
                    if not isinstance(section, dict):
                        raise yaml.YAMLError("<< takes in sections only")
                    merged = section | merged
                continue
            name = self.of(key, within)
            if not isinstance(name, str):
                raise yaml.YAMLError(f"{_short(name)} is no name of a field; names are texts")
            if name in own:
                raise yaml.YAMLError(f"{_short(name)} is there twice")
            own[name] = self.of(value, within)
        return merged | own


def _scalar(loader: _Loader, node: yaml.ScalarNode) -> Hashable:
    if node.tag in (_TAG + "int", _TAG + "float") and len(node.value) > _MAX_DIGITS:
        raise yaml.YAMLError(f"a number of {len(node.value):,} characters")
    if node.tag == _TAG + "int" and node.value.lstrip("+-").startswith("0o"):
        return int(node.value.replace("_", ""), 8)
    if node.tag == _TAG + "bool" and node.value.lower() not in loader.bool_values:
        raise yaml.YAMLError(f"{_short(node.value)} is no boolean")
    return loader.construct_object(node)


def dump_yaml(value: Any) -> str:
    """Plain values as the text that `parse_yaml` reads back as they were."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False)


def read_json(path: str | Path, place: str) -> Any:
    """The plain value that the JSON file `path` holds.

    InputError, which begins with `place`: it cannot be read, is no UTF-8 or no JSON, holds a number that is not finite,
    the same name twice, or more than the bounds allow.
    """
    text = _read(path, place, MAX_JSON_BYTES)
    try:
        return json.loads(
            text, parse_constant=_not_finite, parse_float=_finite, parse_int=_whole, object_pairs_hook=_once_each
        )
    except (ValueError, RecursionError) as error:
        said = "it nests too deep" if isinstance(error, RecursionError) else error
        raise InputError(f"{place}: {path} cannot be read ({said}); accepted: JSON") from error


def _not_finite(said: str) -> NoReturn:
    raise ValueError(f"{said} is no number")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _not_finite(_short(digits))


def _whole(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(digits):,} digits")
    return int(digits)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _read(path: str | Path, place: str, most: int) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise InputError(f"{place}: {path} has more than {most:,} bytes, the most that is read of such a file")
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{place}: {path} cannot be read (byte {error.start} is not UTF-8); save it as UTF-8 text"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        said = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise InputError(f"{place}: {_short(str(path))} cannot be read ({said}); give a file of text") from error


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 200 else f"{said[:200]}..."
