"""From the command line and YAML files to a typed configuration, and back to YAML."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import jsonargparse
import yaml

from tcl.config import PretrainConfig
from tcl.config_checks import check_pretrain
from tcl.errors import InputError

jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)

EPILOG = (
    "--preset NAME is the --config of a configuration that ships with the package. "
    "--dry_run prints what the run would be and reads a batch of every source; --debug shows the traceback of an error."
)

Config = TypeVar("Config")


def parse_pretrain(arguments: list[str]) -> PretrainConfig:
    """The configuration of `tcl pretrain`; see `parse_config`."""
    return parse_config(arguments, PretrainConfig, check_pretrain, "tcl pretrain")


def parse_config(arguments: list[str], kind: type[Config], check: Callable[[Config], None], program: str) -> Config:
    """Command line (`--config file.yaml --train.steps 100 ...`, later ones win) -> a checked configuration.

    program: whose --help messages name. InputError: an unknown key, a wrong type, or a value that `check` refuses.
    """
    parser = config_parser(kind, program)
    try:
        parsed = parser.parse_args(arguments)
        parsed.pop("config")
        config = kind(**vars(parser.instantiate(parsed)))
    except (jsonargparse.ArgumentError, TypeError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"config: {said}; `{program} --help` lists every option and its type") from error
    check(config)
    return config


def config_parser(kind: type, program: str) -> jsonargparse.ArgumentParser:
    """Every field of the dataclass `kind` as an option, and --config."""
    parser = jsonargparse.ArgumentParser(prog=program, exit_on_error=False, description=kind.__doc__, epilog=EPILOG)
    parser.add_argument("--config", action="config", help="YAML file of options; may be given more than once.")
    parser.add_class_arguments(kind, as_group=False)
    return parser


def save_config(config: object, path: Path) -> None:
    """Write the resolved configuration, a dataclass, as YAML that `--config` reads back."""
    path.write_text(yaml.safe_dump(_plain(asdict(config)), sort_keys=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
