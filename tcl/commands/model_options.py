"""The options of every command that loads a model."""

import argparse
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tcl.inference.load_model import Loaded
    from tcl.inference.matcher import Matcher

Model = TypeVar("Model")


def add_model_source(options: argparse.ArgumentParser) -> None:
    """MODEL, and which state of it where it lies on the hub."""
    options.add_argument("model", metavar="MODEL", help="a run, one of its checkpoints, an export, or a hub id")
    options.add_argument("--revision", metavar="NAME", help="branch, tag or commit of a hub id")


def add_model_options(options: argparse.ArgumentParser) -> None:
    """MODEL, where it runs, and how much at a time."""
    add_model_source(options)
    add_hardware_options(options)


def add_hardware_options(options: argparse.ArgumentParser, what: str = "", batch_size: int = 32) -> None:
    """Where a model runs, and how many, of `what`, at a time."""
    options.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:N (default: a GPU where there is one)")
    options.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="default auto")
    default = f"{what} in one forward pass (default {batch_size})".strip()
    options.add_argument("--batch_size", type=int, default=batch_size, metavar="N", help=default)


def load_model(kind: type[Model], given: argparse.Namespace) -> Model:
    """A tcl.TCL or tcl.TCLForVQA as these options say. InputError: as its from_pretrained."""
    return kind.from_pretrained(given.model, **_how(given))


def load_any_model(given: argparse.Namespace) -> "Loaded":
    """Of whatever kind, whoever trained it. InputError: as tcl.load_model."""
    from tcl.inference.load_model import load_model as load

    return load(given.model, **_how(given))


def load_matcher(given: argparse.Namespace) -> "Matcher":
    """One that says which texts belong to which images. InputError: as tcl.load_model, another kind."""
    from tcl.inference.load_model import load_matcher as load

    return load(given.model, **_how(given))


def _how(given: argparse.Namespace) -> dict[str, Any]:
    names = ("revision", "device", "precision", "batch_size")
    return {name: getattr(given, name) for name in names}
