"""From the command line and YAML files to a typed configuration, and back to YAML.

Values, in files and on the command line, are plain YAML (tcl.plain_values), typed by the fields that they are for
(tcl.typed_section); jsonargparse only prints --help.
"""

import typing
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jsonargparse

from tcl.config.checks import check_sizes
from tcl.errors import InputError
from tcl.plain_values import dump_yaml, parse_yaml, read_yaml
from tcl.typed_section import checked, filled, merged, nearest

jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)

EPILOG = (
    "--preset NAME is the --config of a configuration that ships with the package. "
    "--dry_run prints what the run would be and reads a batch of every source; --debug shows the traceback of an error."
)

Config = TypeVar("Config")


class Given(NamedTuple):
    """One thing that was said of a configuration."""

    place: str
    """What messages about it begin with."""
    said: dict[str, Any]
    """Plain values by field, in sections as the configuration's."""
    file: str | None = None
    """Of --config, that says it."""


def help_if_asked(arguments: list[str], kind: type, program: str) -> None:
    """--help lists every field of `kind` and exits with status 0."""
    if {"-h", "--help"} & set(arguments):
        config_parser(kind, program).print_help()
        raise SystemExit(0)


def resolve(given: list[Given], kind: type[Config], check: Callable[[Config], None]) -> Config:
    """What was said as one checked configuration; later ones win."""
    values: dict[str, Any] = {}
    for one in given:
        values = merged(kind, values, checked(kind, one.said, one.place))
    config = filled(kind, values, "", {})
    check_sizes(config)
    check(config)
    return config


def read_options(arguments: list[str], program: str) -> list[tuple[str, list[str]] | Given]:
    """('train.steps', ['100']) of --train.steps 100 and of --train.steps=100, and what each --config file says.

    InputError: a word that belongs to no option, a file that is no plain YAML.
    """
    found: list[tuple[str, list[str]] | Given] = []
    for option, texts in _split(arguments, program):
        if option != "config":
            found.append((option, texts))
        elif texts:
            found += [Given(f"config: {path}: ", _section_of_file(path), path) for path in texts]
        else:
            raise InputError(f"config: --config needs a value; `{program} --help` lists every option and its type")
    return found


def given_by(options: list[tuple[str, list[str]] | Given], kind: type, program: str) -> list[Given]:
    """What options that were read say of a `kind`, in their order.

    InputError: an option that `kind` does not have, one without a value, a value that is no plain YAML.
    """
    return [one if isinstance(one, Given) else Given("", _nested(*one, kind, program)) for one in options]


def _split(arguments: list[str], program: str) -> list[tuple[str, list[str]]]:
    found: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if argument.startswith("--"):
            name, given, value = argument[2:].partition("=")
            found.append((name, [value] if given else []))
        elif found:
            found[-1][1].append(argument)
        else:
            raise InputError(f"config: {argument!r} is no option; `{program} --help` lists every option and its type")
    return found


def _section_of_file(path: str) -> dict[str, Any]:
    said = read_yaml(path, "config")
    if said is not None and not isinstance(said, dict):
        raise InputError(f"config: {path} holds a {type(said).__name__}; accepted: sections of fields by name")
    return said or {}


def _nested(option: str, texts: list[str], kind: type, program: str) -> dict[str, Any]:
    """{'train': {'steps': 100}} of --train.steps 100."""
    hint = _hint_of(option, kind)
    if hint is None:
        meant = nearest(kind, option)
        meant = meant if "did you mean" in meant else f"; `{program} --help` lists every option and its type"
        raise InputError(f"config: there is no option --{option}{meant.replace('mean ', 'mean --')}")
    if not texts:
        raise InputError(f"config: --{option} needs a value; `{program} --help` lists every option and its type")
    values = [_value(text, hint, option) for text in texts]
    if len(values) > 1 and typing.get_origin(hint) is not list:
        raise InputError(
            f"config: --{option} takes one value, not {len(values)}: {' '.join(texts)!r}; put it in quotes"
        )
    said: Any = values[0] if len(values) == 1 else values
    for name in reversed(option.split(".")):
        said = {name: said}
    return said


def _hint_of(option: str, kind: type) -> Any:
    """The type of the field that `option` names; None: there is no such field."""
    hint: Any = kind
    for name in option.split("."):
        hint = typing.get_type_hints(hint).get(name) if is_dataclass(hint) else None
        if hint is None:
            return None
    return hint


def _value(text: str, hint: Any, option: str) -> Any:
    """A text where a text is wanted, unless it is one of the field's other values: null, true, false."""
    kinds = typing.get_args(hint) if typing.get_origin(hint) not in (list, tuple, dict) else ()
    if hint is str or str in kinds:
        other = {"null": None, "true": True, "false": False}.get(text, text)
        return other if type(other) in kinds else text
    if typing.get_origin(hint) is list and not text.lstrip().startswith(("[", "{", "- ")):
        return text
    return parse_yaml(text, option)


def config_parser(kind: type, program: str) -> jsonargparse.ArgumentParser:
    """Every field of the dataclass `kind` as an option, and --config: for --help and completion. It parses nothing."""
    parser = jsonargparse.ArgumentParser(
        prog=program, exit_on_error=False, description=kind.__doc__, epilog=EPILOG, add_help=True
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file of options; may be given more than once.")
    parser.add_class_arguments(kind, as_group=False)
    return parser


def save_config(config: object, path: Path) -> None:
    """Write the resolved configuration, a dataclass, as YAML that `--config` reads back."""
    path.write_text(dump_yaml(_plain(asdict(config))), encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
