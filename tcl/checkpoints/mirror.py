"""A copy of a run in another place: a folder, or what fsspec reaches, such as s3://bucket/mine.

It has the files of the run's output_dir under their names. A checkpoint's manifest comes last: without one it is not
there yet. Checkpoints that the run has removed are removed there, too, when newer ones have come.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import fsspec
from fsspec import AbstractFileSystem

from tcl.checkpoints.checkpoint_store import list_checkpoints, newest_intact
from tcl.checkpoints.manifest import MANIFEST, verify
from tcl.errors import InputError

CHECKPOINTS = "checkpoints"
CHUNK_BYTES = 8 << 20


class Mirror:
    """Sends what is new in `run` to the place `url`, in a thread of its own: training does not wait for it."""

    def __init__(self, url: str, run: Path):
        """InputError: no place that fsspec knows."""
        self.url, self.run = url, run
        self.files, self.root = place_of(url)
        self._thread = ThreadPoolExecutor(1, "mirror")
        self._pending: Future | None = None
        self._sent: dict[str, tuple[int, int]] = {}
        """Size and time of files that are no checkpoint's, as they were sent."""

    def send_later(self) -> str | None:
        """Send what there is now, once the sending before it is done; while one is under way, the next call does it.
        Returns a line if the former one failed."""
        if self._pending is not None and not self._pending.done():
            return None
        problem = self._told()
        self._pending = self._thread.submit(self._send)
        return problem

    def finish(self) -> str | None:
        """Send what is left, and wait for it. Returns a line if it failed."""
        self._told()
        self._pending = self._thread.submit(self._send)
        problem = self._told()
        self._thread.shutdown()
        return problem

    def _told(self) -> str | None:
        """Waits. What the last sending failed of: any storage raises what it likes."""
        pending, self._pending = self._pending, None
        error = None if pending is None else pending.exception()
        if error is None:
            return None
        said = " ".join(str(error).split()) or type(error).__name__
        return f"train.mirror: {self.url} lacks the newest of the run ({said}), which {self.run} has"

    def _send(self) -> None:
        there = list_checkpoints(self.run / CHECKPOINTS)
        for folder in there:
            with _unless_gone(folder):
                self._send_checkpoint(folder)
        for path in _other_files(self.run):
            with _unless_gone(path):
                self._send_file(path)
        newest = there[-1].name if there else ""
        for name in _steps(self.files, self.root):
            if name < newest and not (self.run / CHECKPOINTS / name).is_dir():
                self.files.rm(f"{self.root}/{CHECKPOINTS}/{name}", recursive=True)

    def _send_checkpoint(self, folder: Path) -> None:
        target = f"{self.root}/{CHECKPOINTS}/{folder.name}"
        manifest = (folder / MANIFEST).read_bytes()
        if self.files.exists(f"{target}/{MANIFEST}"):
            if self.files.cat_file(f"{target}/{MANIFEST}") == manifest:
                return
            self.files.rm_file(f"{target}/{MANIFEST}")
        names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
        for name in [*names, MANIFEST]:
            _copy_there(self.files, folder / name, f"{target}/{name}")

    def _send_file(self, path: Path) -> None:
        stat, name = path.stat(), path.relative_to(self.run).as_posix()
        if self._sent.get(name) != (stat.st_size, stat.st_mtime_ns):
            _copy_there(self.files, path, f"{self.root}/{name}")
            self._sent[name] = (stat.st_size, stat.st_mtime_ns)


@contextlib.contextmanager
def _unless_gone(path: Path) -> Iterator[None]:
    """What the run has removed meanwhile need not be sent; a place that is not there is another matter."""
    try:
        yield
    except FileNotFoundError:
        if path.exists():
            raise


def place_of(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a train.mirror, and where in it. InputError: fsspec knows no such one, or lacks a package."""
    try:
        files, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        said = " ".join(str(error).split())
        raise InputError(
            f"train.mirror: {url!r} cannot be reached ({said}); give a folder or a URL of fsspec"
        ) from error
    return files, root.rstrip("/")


def fetch(url: str, run: Path, *, goes_on: bool) -> list[str]:
    """Bring the run of the place `url` into `run`, where it is further than what lies there; lines for the person.

    goes_on: train.resume is auto or not given. InputError: it is further and `goes_on` is false; all of its
    checkpoints are damaged; it cannot be read or made.
    """
    files, root = place_of(url)
    intact, _ = newest_intact(run / CHECKPOINTS)
    try:
        files.makedirs(root, exist_ok=True)
        steps = _steps(files, root)
        if not steps or (intact is not None and intact.name >= steps[-1]):
            return []
        if not goes_on:
            raise InputError(f"train.mirror: {url} holds {steps[-1]} of a run; name another place, or go on with it")
        lines = [line for name in reversed(steps) if (line := _fetch_checkpoint(files, root, run, name)) is not None]
        if len(lines) == len(steps):
            raise InputError(f"train.mirror: every checkpoint is damaged ({lines[0]}); remove {url} to begin anew")
        for path in files.find(root):
            name = path[len(root) :].lstrip("/")
            if not name.startswith(f"{CHECKPOINTS}/step_"):
                _copy_here(files, path, run / name)
    except InputError:
        raise
    except Exception as error:  # of whatever storage it is
        said = " ".join(str(error).split())
        raise InputError(f"train.mirror: {url} cannot be used ({said}); name another place, or leave it out") from error
    newest, _ = newest_intact(run / CHECKPOINTS)
    return [*lines, f"fetched from {url}: {len(steps) - len(lines)} checkpoints up to {newest.name}"]


def _fetch_checkpoint(files: AbstractFileSystem, root: str, run: Path, name: str) -> str | None:
    """A line if it is damaged."""
    partial, path = run / CHECKPOINTS / f".partial_{name}", run / CHECKPOINTS / name
    shutil.rmtree(partial, ignore_errors=True)
    for file in files.find(f"{root}/{CHECKPOINTS}/{name}"):
        _copy_here(files, file, partial / file.rsplit("/", 1)[1])
    if wrong := verify(partial):
        shutil.rmtree(partial)
        return f"{root}/{CHECKPOINTS}/{name}: {wrong}"
    shutil.rmtree(path, ignore_errors=True)
    os.replace(partial, path)
    return None


def _steps(files: AbstractFileSystem, root: str) -> list[str]:
    """Checkpoints that are whole by their names, oldest first."""
    files.invalidate_cache()
    found = files.glob(f"{root}/{CHECKPOINTS}/step_*/{MANIFEST}")
    return sorted(path.rsplit("/", 2)[1] for path in found)


def _other_files(run: Path) -> Iterator[Path]:
    """All but checkpoints and what is being written."""
    for path in sorted(run.rglob("*")):
        parts = path.relative_to(run).parts
        hidden = any(part.startswith(".") for part in parts)
        if not hidden and path.is_file() and not (parts[0] == CHECKPOINTS and len(parts) > 2):
            yield path


def _copy_there(files: AbstractFileSystem, path: Path, target: str) -> None:
    """As a whole: nothing of that name, or all of it."""
    files.makedirs(target.rsplit("/", 1)[0], exist_ok=True)
    with files.transaction, path.open("rb") as source, files.open(target, "wb") as copy:
        shutil.copyfileobj(source, copy, CHUNK_BYTES)


def _copy_here(files: AbstractFileSystem, source: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.open(source, "rb") as file, path.open("wb") as copy:
        shutil.copyfileobj(file, copy, CHUNK_BYTES)
