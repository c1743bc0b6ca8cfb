"""How far `tcl index` has come, for those who watch from another process."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

FILE = "progress.json"
"""There from the first look at the images until the engine knows all; a stop leaves it."""


@dataclass(frozen=True)
class Progress:
    """Of an index that is being written."""

    files: int
    """That there are: images, or shards."""
    read: int
    """Of them, to their ends."""


def begin_progress(folder: Path, files: int) -> None:
    """OSError: it cannot be written."""
    (folder / FILE).write_text(json.dumps({"files": files}))


def end_progress(folder: Path) -> None:
    """OSError: it cannot be removed."""
    (folder / FILE).unlink(missing_ok=True)


def read_progress(folder: Path, read: int) -> Progress | None:
    """None: nobody writes, or what is there is damaged. read: as the catalogue knows."""
    with contextlib.suppress(OSError, ValueError):
        said = json.loads((folder / FILE).read_bytes()[:1000])
        files = said.get("files") if isinstance(said, dict) else None
        if type(files) is int and files >= 0:
            return Progress(files, min(read, files))
    return None
