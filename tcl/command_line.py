"""From the command line and YAML files to a typed configuration, and back to YAML."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import jsonargparse
import yaml

from tcl.config import PretrainConfig
from tcl.config_checks import check_pretrain
from tcl.errors import PREEMPTED_EXIT_CODE, InputError, Preempted

jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)

Config = TypeVar("Config")


def parse_pretrain(arguments: list[str]) -> PretrainConfig:
    """The configuration of `pretrain.py`; see `parse_config`."""
    return parse_config(arguments, PretrainConfig, check_pretrain, "pretrain.py")


def parse_config(arguments: list[str], kind: type[Config], check: Callable[[Config], None], program: str) -> Config:
    """Command line (`--config file.yaml --train.steps 100 ...`, later ones win) -> a checked configuration.

    InputError: an unknown key, a wrong type, or a value that `check` refuses.
    """
    parser = jsonargparse.ArgumentParser(prog=program, exit_on_error=False, description=kind.__doc__)
    parser.add_argument("--config", action="config", help="YAML file of options; may be given more than once.")
    parser.add_class_arguments(kind, as_group=False)
    try:
        parsed = parser.parse_args(arguments)
        parsed.pop("config")
        config = kind(**vars(parser.instantiate(parsed)))
    except (jsonargparse.ArgumentError, TypeError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"config: {said}; `python {program} --help` lists every option and its type") from error
    check(config)
    return config


def end_with_one_line(main: Callable[[], None]) -> None:
    """Run `main`; what the person at the keyboard can mend is one line on stderr and exit code 2, being told to stop
    (and saved) exit code 75, Ctrl-C 130."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Preempted as told:
        print(told, file=sys.stderr)
        sys.exit(PREEMPTED_EXIT_CODE)
    except KeyboardInterrupt:
        sys.exit(130)


def save_config(config: object, path: Path) -> None:
    """Write the resolved configuration, a dataclass, as YAML that `--config` reads back."""
    path.write_text(yaml.safe_dump(_plain(asdict(config)), sort_keys=False))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
