"""One run per folder: who trains into an output_dir holds a lock on it for as long as the process lives.

    .run_lock       locked by the main process of the run; the system frees it when that process ends, however it does
    .run_holder     host and process id of that process

Evaluations take no lock: one may look at a run that is training.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator
from filelock import FileLock, Timeout

from tcl.runs.together import raise_together

LOCK, HOLDER = ".run_lock", ".run_holder"


@contextmanager
def only_run_in(accelerator: Accelerator, folder: Path) -> Iterator[Callable[[], None]]:
    """Within, no other run can train into `folder`, which is made. Called on every process; the main one locks.

    Gives a function that leaves this process' name for others to read; until it is called, no file of the run changes.
    InputError on all processes: another run is there, or the folder cannot be written.
    """
    if not accelerator.is_main_process:
        raise_together(None)
        yield lambda: None
        return
    made, lock = not folder.exists(), FileLock(folder / LOCK)
    new = not (folder / LOCK).exists()
    raise_together(_problem(lock, folder))
    named = False

    def leave_name() -> None:
        nonlocal named
        (folder / HOLDER).write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        named = True

    try:
        yield leave_name
    finally:
        if named:
            (folder / HOLDER).unlink(missing_ok=True)
        elif new:  # nothing was done: nothing is left
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()
        if made:
            with contextlib.suppress(OSError):
                folder.rmdir()  # only if it is empty


def _problem(lock: FileLock, folder: Path) -> str | None:
    """Lock it; what is in the way, None if nothing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        return (
            f"output_dir: {folder} is that of another run, which is training ({_holder(folder)}); wait for its end, "
            f"stop it, or name another folder"
        )
    except NotImplementedError:
        return None  # a file system without locks
    except (FileExistsError, NotADirectoryError):
        return f"output_dir: {folder} is a file, or lies under one; name a folder"
    except OSError as error:
        return f"output_dir: {folder} cannot be written ({error.strerror or error}); name another folder"
    return None


def _holder(folder: Path) -> str:
    try:
        return (folder / HOLDER).read_text(errors="replace").strip()[:200] or "not named yet"
    except OSError:
        return "not named yet"
