"""Files that are whole at every moment: what stood under the name before, or all of the new one."""

import os
from collections.abc import Callable
from pathlib import Path


def partial_of(path: Path) -> Path:
    """Where a file, or a folder, is written before it gets the name `path`."""
    return path.with_name(f"{path.name}.partial")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """`write` makes the file that it is given, which becomes `path` when it is whole and on the disk.

    OSError: it cannot be written; `path` is what it was, and nothing is left beside it, whatever `write` raises.
    """
    partial = partial_of(path)
    partial.unlink(missing_ok=True)  # a link or a pipe that lies there would be written through
    try:
        write(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
