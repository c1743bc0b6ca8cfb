"""Rows of a run's metrics.jsonl, of which some may be damaged: a killed run leaves half a row, a broken disk worse."""

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class MetricsFile:
    """What is in the file, in its order; nothing where there is no file."""

    rows: list[dict] = field(default_factory=list)
    """Each with an integer `step` >= 0."""
    lines: list[bytes] = field(default_factory=list)
    """Of the rows, without the line feed."""
    damaged: list[tuple[int, bytes]] = field(default_factory=list)
    """Lines that are no such row, with their numbers from 1."""


def read_metrics(path: Path) -> MetricsFile:
    """The file at `path`. OSError: it cannot be read."""
    found = MetricsFile()
    for number, line in enumerate(path.read_bytes().split(b"\n") if path.is_file() else [], start=1):
        row = _row(line)
        if row is not None:
            found.rows.append(row)
            found.lines.append(line)
        elif line.strip():
            found.damaged.append((number, line))
    return found


def _row(line: bytes) -> dict | None:
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    step = row.get("step") if isinstance(row, dict) else None
    return row if type(step) is int and step >= 0 else None
