"""Which options of a run's configuration differ from those that it had so far, and which of these must be confirmed.

The classification is with the options themselves: `tcl.config.free.FREE`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from tcl.config.free import FREE
from tcl.data.texts.tokenize import load_tokenizer
from tcl.errors import InputError
from tcl.runs.history import option, read_options


@dataclass(frozen=True)
class Change:
    """An option that differs from that of the run so far."""

    name: str
    was: Any
    now: Any
    free: bool
    """It changes nothing in what the weights mean."""


def describe_changes(config: Any, tokenizer: PreTrainedTokenizerBase | None, run: Path, checkpoint: Path) -> list[str]:
    """A table, line by line, of the options that differ from those of `run`, to which `checkpoint` belongs.

    config: of any kind that trains. tokenizer: None where no texts are read. InputError: some change what the
    weights mean, and train.resume is not given.
    """
    given = config.train.resume is not None
    try:
        changes = [*changed_options(config, read_options(run / "config.yaml")), *_changed_words(tokenizer, run)]
    except InputError as error:
        if given:
            return [f"which options have changed cannot be told: {error}"]
        raise InputError(f"{error}; to go on without a look at it, give --train.resume auto") from error
    telling = [
        f"{change.name} (was {_short(change.was)}, is {_short(change.now)})" for change in changes if not change.free
    ]
    if telling and not given:
        raise InputError(
            f"train.resume: not given, but {checkpoint} was trained with other options than these: "
            f"{', '.join(telling)}; take those of {run / 'config.yaml'}, another output_dir, or "
            f"give --train.resume auto to go on with these"
        )
    return change_table(changes)


def changed_options(config: Any, said: dict) -> list[Change]:
    """What differs between a run's saved configuration and `config`. What it does not name was the default."""
    defaults = {name: value for name, value, _ in _options(type(config)())}
    found = []
    for name, now, free in _options(config):
        was = option(said, name) if _names(said, name) else defaults.get(name)
        if was != now and name != "train.resume":
            found.append(Change(name, was, now, free))
    if option(said, "task") is not None and not hasattr(config, "task"):
        found.append(Change("task", option(said, "task"), "pre-training", False))
    return found


def change_table(changes: list[Change]) -> list[str]:
    """As lines: option, was, is."""
    rows = [("option", "was", "is")] + [(change.name, _short(change.was), _short(change.now)) for change in changes]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"  {name:<{widths[0]}}  {was:<{widths[1]}}  {now}" for name, was, now in rows]
    return ["options that are not what they were so far:", *lines] if changes else []


def _short(value: Any) -> str:
    return f"{value!s:.200}"


def _options(section: Any, prefix: str = "", free: bool = False) -> Iterator[tuple[str, Any, bool]]:
    """(name, plain value, is it FREE) of every option; of each field of a list of sections, data.train[].shards."""
    for field in fields(section):
        name, value = f"{prefix}{field.name}", getattr(section, field.name)
        is_free = free or field.metadata == FREE
        if is_dataclass(value):
            yield from _options(value, f"{name}.", is_free)
        elif isinstance(value, list) and any(map(is_dataclass, value)):
            for item in fields(value[0]):
                values = [getattr(one, item.name) for one in value]
                yield f"{name}[].{item.name}", values, is_free or item.metadata == FREE
        else:
            yield name, _plain(value), is_free


def _names(said: dict, name: str) -> bool:
    """Is the option there, if with the value null?"""
    section, _, last = name.split("[]")[0].rpartition(".")
    found = option(said, section) if section else said
    return isinstance(found, dict) and last in found


def _plain(value: Any) -> Any:
    """As YAML gives it back, which knows no tuples."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def _changed_words(tokenizer: PreTrainedTokenizerBase | None, run: Path) -> list[Change]:
    """Tokenizers of two places may be the same, and one of one place another than it was: what counts are its words."""
    kept = run / "tokenizer"
    if tokenizer is None or not kept.is_dir() or load_tokenizer(str(kept)).get_vocab() == tokenizer.get_vocab():
        return []
    return [Change("words of model.text.tokenizer", f"those of {kept}", f"{len(tokenizer):,} others", False)]
