"""A folder of checkpoints on disk, each a folder of files that is either complete or not there.

checkpoints/
    step_00005000/                   the files, and manifest.json (tcl.checkpoints.manifest)
    latest, best                     text files that hold the name of a step folder
    .partial_step_00006000/          being written; half-written if the run was stopped meanwhile
    step_00005000.replaced/          the former version, for as long as the same step is written again
    .removed_step_00001000/          being removed

Nothing here knows of models. One process writes a folder; any number may read it, and reading changes nothing.
"""

import os
import re
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tcl.checkpoints.manifest import to_json, verify, write_manifest
from tcl.checkpoints.weights_file import write_weights
from tcl.errors import InputError

_POINTERS = ("latest", "best")
_PARTIAL = ".partial_"
_REMOVED = ".removed_"
_REPLACED = ".replaced"
_NAME = re.compile(rf"({re.escape(_PARTIAL)})?step_(\d{{8,}})({re.escape(_REPLACED)})?")


@dataclass(frozen=True)
class Files:
    """What one checkpoint holds, by file name."""

    tensors: dict[str, dict[str, Tensor]]
    """'student.safetensors' -> its tensors: contiguous, on the CPU, sharing no memory with each other, and changed by
    nobody until the checkpoint is written."""
    json: dict[str, Any]
    """'progress.json' -> a JSON value."""


class CheckpointStore:
    """Writes checkpoints into `folder`, which need not exist, and removes old ones: all but the newest `keep` (>= 1),
    the one that `latest` names and the one that `best` names. The disk needs room for one more than that.

    With `asynchronous`, write() returns at once and a thread does the work; call wait() at the end of the run, or the
    last error is lost. An interpreter that exits without it still finishes the write under way.
    """

    def __init__(self, folder: Path, keep: int, asynchronous: bool):
        self.folder = folder
        self.keep = keep
        self._thread = ThreadPoolExecutor(1, "checkpoint") if asynchronous else None
        self._pending: Future | None = None

    def write(self, step: int, files: Files, *, is_best: bool = False) -> Path:
        """Write `files` as `folder`/step_N and return its path; a step that is there already is replaced.

        InputError: this write or, if it was asynchronous, the one before it failed for want of space or permission.
        What was there before stays, and so does `latest`.
        """
        self.wait()
        path = self.folder / f"step_{step:08d}"
        if self._thread is None:
            self._write(path, files, is_best)
        else:
            self._pending = self._thread.submit(self._write, path, files, is_best)
        return path

    def wait(self) -> None:
        """Return once an asynchronous write is done. Raises, once, what it raised: InputError as in write()."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()

    def _write(self, path: Path, files: Files, is_best: bool) -> None:
        partial = self.folder / f"{_PARTIAL}{path.name}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            _settle(self.folder)
            _write_files(partial, files)
            _move_into_place(partial, path)
            for pointer in _POINTERS if is_best else _POINTERS[:1]:
                _write_pointer(self.folder / pointer, path.name)
            named = {_read_pointer(self.folder / pointer) for pointer in _POINTERS}
            for old in list_checkpoints(self.folder)[: -self.keep]:
                if old.name not in named:
                    _remove(old)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            good, _ = newest_intact(self.folder)
            rest = f"the newest good checkpoint is still {good.name}" if good else "there is no good checkpoint"
            raise InputError(f"{self.folder}: saving {path.name} failed: {error.strerror or error}; {rest}") from error


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints in `folder` that are complete by their name, oldest first; verify() says whether they are intact."""
    return [path for path in _by_age(folder) if not path.name.startswith(_PARTIAL)]


def newest_intact(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint in `folder` whose manifest holds, and a line for each newer one that was passed over."""
    passed_over = []
    for path in reversed(_by_age(folder)):
        half_written = path.name.startswith(_PARTIAL)
        wrong = "half-written, its saving was cut short" if half_written else verify(path)
        if wrong is None:
            return path, passed_over
        passed_over.append(f"{path}: {wrong}")
    return None, passed_over


def pointed_checkpoint(path: Path) -> Path | None:
    """The step_* folder that `path`, one of the text files `latest` and `best`, names; None: it is no such file.

    InputError: it names none.
    """
    if path.name not in _POINTERS or path.parent.name != "checkpoints" or not path.is_file():
        return None
    name = _read_pointer(path)
    if not re.fullmatch(r"step_\d{8,}", name) or not (path.parent / name).is_dir():
        raise InputError(f"{path}: names {name[:80]!r}, which is no checkpoint beside it; give a step_* folder")
    return path.parent / name


def _by_age(folder: Path) -> list[Path]:
    """Complete and half-written checkpoints, oldest first; of the same step: replaced, half-written, complete."""

    def age(path: Path) -> tuple[int, bool, bool]:
        partial, step, replaced = _NAME.fullmatch(path.name).groups()
        return int(step), not replaced, not partial

    return sorted((path for path in folder.glob("*") if _NAME.fullmatch(path.name) and path.is_dir()), key=age)


def _settle(folder: Path) -> None:
    """Clear away what a crash left, and put back a checkpoint that was moved aside for one that never came."""
    for path in (*folder.glob(f"{_PARTIAL}*"), *folder.glob(f"{_REMOVED}*")):
        _delete(path)
    for former in list(folder.glob(f"step_*{_REPLACED}")):
        path = former.with_suffix("")
        if verify(path) is None:
            _remove(former)
        else:
            if path.exists():
                _remove(path)
            os.replace(former, path)


def _write_files(folder: Path, files: Files) -> None:
    folder.mkdir()
    for name, tensors in files.tensors.items():
        write_weights(tensors, folder / name)
    for name, value in files.json.items():
        (folder / name).write_text(to_json(value))
    for name in (*files.tensors, *files.json):
        _sync(folder / name)
    _sync(write_manifest(folder, [folder / name for name in (*files.tensors, *files.json)]))
    _sync(folder)


def _move_into_place(partial: Path, path: Path) -> None:
    """Rename `partial` to `path`. A folder cannot be renamed onto another, so a former version steps aside first;
    newest_intact() and _settle() know it by its name if the run dies in between."""
    former = path.with_name(f"{path.name}{_REPLACED}")
    if path.exists():
        os.replace(path, former)
    os.replace(partial, path)
    _sync(path.parent)
    if former.exists():
        _remove(former)


def _remove(path: Path) -> None:
    """Remove a checkpoint. It loses its name first, so that none is ever half there under its own name."""
    doomed = path.with_name(f"{_REMOVED}{path.name}")
    os.replace(path, doomed)
    _delete(doomed)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        # What a reader holds open cannot be deleted on a network disk: no reason to stop a run, the next write retries.
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()


def _write_pointer(path: Path, name: str) -> None:
    partial = path.with_name(f"{_PARTIAL}{path.name}")
    partial.write_text(f"{name}\n")
    _sync(partial)
    os.replace(partial, path)
    _sync(path.parent)


def _read_pointer(path: Path) -> str | None:
    return path.read_text(errors="replace").strip() if path.exists() else None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
