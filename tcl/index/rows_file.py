"""Rows of fixed width in one file, read and written by number.

What is read takes memory, the rest of the file none. A row counts once the catalogue names it: rows are synced to the
disk before that, and what a process leaves behind that was killed meanwhile is overwritten.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tcl.errors import InputError


class RowsFile:
    """Rows of `dtype` in the file `path`."""

    def __init__(self, path: Path, dtype: np.dtype, *, writable: bool):
        """writable: made where there is none. OSError: it cannot be opened."""
        self.path, self.dtype = path, dtype
        self._file = os.open(path, os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY, 0o666)

    def check(self, rows: int) -> None:
        """InputError: it is shorter than so many rows."""
        size, needed = os.fstat(self._file).st_size, rows * self.dtype.itemsize
        if size < needed:
            raise InputError(
                f"index: {self.path} is damaged: {size:,} bytes of at least {needed:,}; remove the folder and write it "
                f"again with `tcl index`"
            )

    def write(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Values [n] at places `rows` [n]. OSError: a full disk."""
        for start, stop, first in _runs(rows):
            content, place = memoryview(values[start:stop].tobytes()), first * self.dtype.itemsize
            while content:
                written = os.pwrite(self._file, content, place)
                content, place = content[written:], place + written

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Those at places `rows` [n], of which all are there."""
        found = np.empty(len(rows), self.dtype)
        for start, stop, first in _runs(rows):
            size = (stop - start) * self.dtype.itemsize
            content = os.pread(self._file, size, first * self.dtype.itemsize)
            if len(content) < size:
                self.check(first + stop - start)
            found[start:stop] = np.frombuffer(content, self.dtype)
        return found

    def sync(self) -> None:
        """All that was written is on the disk. OSError: it is full."""
        os.fsync(self._file)

    def close(self) -> None:
        """May be called again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _runs(rows: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(start, stop, rows[start]) of stretches that follow each other in the file."""
    breaks = (np.flatnonzero(np.diff(rows) != 1) + 1).tolist()
    starts = [0, *breaks] if len(rows) else []
    yield from ((start, stop, int(rows[start])) for start, stop in zip(starts, [*breaks, len(rows)], strict=False))
