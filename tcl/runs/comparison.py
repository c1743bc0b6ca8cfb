"""Runs beside each other: which options differ, and what each has come to."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tcl.errors import InputError
from tcl.runs.history import read_options
from tcl.runs.panels import names_of_steps, with_number

OF_THE_PLACE = ("output_dir", "config")
"""Options that differ in any two runs."""


@dataclass(frozen=True)
class Comparison:
    """Each dict has a value for every run, by the run's name; None: it has none."""

    options: dict[str, dict[str, Any]]
    """Those that differ, by their names (objective.alpha)."""
    training: dict[str, dict[str, float | None]]
    """Last values of what steps tell: step, loss, each loss, ..."""
    evaluation: dict[str, dict[str, float | None]]
    """Those of the last evaluation."""


def run_names(runs: list[Path]) -> dict[str, Path]:
    """The runs by what their paths do not share, from both ends. InputError: a run twice."""
    parts = [list(run.resolve().parts) for run in runs]
    for i, own in enumerate(parts):
        if own in parts[:i]:
            raise InputError(f"run: {runs[i]} is there twice; name different ones")
    for place in (0, -1):
        while all(len(own) > 1 for own in parts) and len({own[place] for own in parts}) == 1:
            for own in parts:
                own.pop(place)
    return {"/".join(own): run for own, run in zip(parts, runs, strict=True)}


def compare(runs: dict[str, Path], rows: dict[str, list[dict]]) -> Comparison:
    """runs, rows: by names. InputError: a configuration that cannot be read."""
    said = {name: dict(_flat(_config(run))) for name, run in runs.items()}
    options = {option: {name: said[name].get(option) for name in runs} for option in _all(said.values())}
    steps = {name: [row for row in of_run if "loss" in row] for name, of_run in rows.items()}
    return Comparison(
        {option: values for option, values in options.items() if len(set(map(repr, values.values()))) > 1},
        _last(steps, _all(names_of_steps(of_run) for of_run in rows.values())),
        _last(rows, [name for name in _all(row for of_run in rows.values() for row in of_run) if _is_told(name)]),
    )


def comparison_table(found: Comparison, names: list[str]) -> list[str]:
    """As lines: a row for each number, a column for each run."""
    table = [["", *names]]
    for title, part in (
        ("options that differ", found.options),
        ("training, last", found.training),
        ("evaluation, last", found.evaluation),
    ):
        if part:
            table += [[], [title]]
        for name, values in part.items():
            table.append([f"  {name.removeprefix('eval_')}", *(_shown(values[run]) for run in names)])
    widths = [max(len(row[i]) for row in table if len(row) > i and len(row) > 1) for i in range(len(names) + 1)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)).rstrip() for row in table]


def _config(run: Path) -> dict:
    """Of a run without a configuration, an empty one."""
    path = run / "config.yaml"
    return read_options(path) if path.is_file() else {}


def _flat(said: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in said.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        elif f"{prefix}{name}" not in OF_THE_PLACE:
            yield f"{prefix}{name}", value


def _all(several: Any) -> list[str]:
    """Names that any of them has, in order."""
    return list(dict.fromkeys(name for names in several for name in names))


def _last(rows: dict[str, list[dict]], names: list[str]) -> dict[str, dict[str, float | None]]:
    found = {}
    for name in names:
        values = {run: [row[name] for row in with_number(of_run, name)] for run, of_run in rows.items()}
        if any(values.values()):
            found[name] = {run: of_run[-1] if of_run else None for run, of_run in values.items()}
    return found


def _is_told(name: str) -> bool:
    return name.startswith("eval_")


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
