"""Rows of a run's metrics.jsonl, of which some may be damaged: a killed run leaves half a row, a broken disk worse."""

import contextlib
import errno
import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from tcl.whole_file import write_whole


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


def append_row(file: io.FileIO, row: bytes) -> None:
    """All of the row, or nothing. OSError: the disk is full."""
    size = os.fstat(file.fileno()).st_size
    try:
        if file.write(row) != len(row):  # a full disk takes a part, and says so of the next one
            file.write(row)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        with contextlib.suppress(OSError):
            file.truncate(size)
        raise


def forget_rows_after(path: Path, step: int) -> list[str]:
    """A resumed run writes the rows after its checkpoint again. Lines that are no rows go to metrics.damaged.jsonl.

    Returns a line that names those, if there are any. OSError: among others, `path` is a pipe.
    """
    if path.is_fifo():  # opening it would wait for a reader
        raise OSError(errno.EINVAL, "it is a pipe")
    found = read_metrics(path)
    kept = [line for row, line in zip(found.rows, found.lines, strict=True) if row["step"] <= step]
    if found.damaged:
        aside = path.with_name("metrics.damaged.jsonl")
        with aside.open("ab") as file:
            file.write(b"".join(line + b"\n" for _, line in found.damaged))
    if found.damaged or len(kept) < len(found.rows):
        write_whole(path, lambda out: out.write_bytes(b"".join(line + b"\n" for line in kept)))
    if not found.damaged:
        return []
    numbers = ", ".join(str(number) for number, _ in found.damaged[:10])
    more = f" and {len(found.damaged) - 10:,} more" if len(found.damaged) > 10 else ""
    start = found.damaged[0][1][:60].decode(errors="replace")
    return [f"{path}: no rows with a step in lines {numbers}{more} (the first: {start}); moved to {aside.name}"]


def _row(line: bytes) -> dict | None:
    try:
        row = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    step = row.get("step") if isinstance(row, dict) else None
    return row if type(step) is int and step >= 0 else None
