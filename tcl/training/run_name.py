"""A run's folder where none is named: runs/<configuration>-<date>-<n>, n the first that is free.

`{date}` and `{n}` in output_dir stand for both. A run is found again by the launcher that started it, so that processes
that torchrun starts anew, or a Slurm job that is queued again, go on in the same one; by `--train.resume auto`, the
newest of that name; and by the path of a checkpoint in it.

    .launched_by    the launchers of a run's processes, one a line
"""

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from itertools import count
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import gather_object

from tcl.checkpoints.run_folder import run_folder_of
from tcl.runs.lock import LOCK
from tcl.runs.together import raise_together
from tcl.shown import shown
from tcl.tasks.task import RunConfig

LAUNCHED_BY = ".launched_by"
SLURM = "slurm"


@contextmanager
def named_run(accelerator: Accelerator, config: RunConfig, resume: str | None) -> Iterator[RunConfig]:
    """Within, `config` has an output_dir without `{date}` and `{n}`, the same on every process. Called on each.

    resume: as train.resume, None where nothing is trained. A folder that was made and in which nothing was done goes
    again. InputError on all processes: none can be made.
    """
    if "{n}" not in config.output_dir and "{date}" not in config.output_dir:
        yield config
        return
    launchers = set(gather_object(_launchers()))
    folder, problem = None, None
    if accelerator.is_main_process:
        try:
            folder = _former(config.output_dir, launchers, resume) or _new(config.output_dir, launchers)
        except OSError as error:
            problem = f"output_dir: {config.output_dir} cannot be made ({error.strerror}); name another folder"
    raise_together(problem)
    folder = gather_object([folder])[0]
    accelerator.print(shown(f"run: {folder}"), flush=True)
    try:
        yield replace(config, output_dir=str(folder))
    finally:
        if accelerator.is_main_process:
            _remove_unused(folder)


def _former(pattern: str, launchers: set[str], resume: str | None) -> Path | None:
    """The run to go on in; None: a new one."""
    if resume not in (None, "auto", "none"):
        return run_folder_of(resume)  # of a path
    runs = _runs(pattern)
    same = {launcher for launcher in launchers if _restarted(launcher)}
    ours = [run for run in runs if same & _read_launchers(run)]
    newest = runs[-1:] if resume == "auto" else []
    return (ours or newest or [None])[-1]


def _runs(pattern: str) -> list[Path]:
    """Those of that name, by date and number."""
    name = re.escape(Path(pattern).name)
    name = name.replace(r"\{date\}", r"(?P<date>\d{4}-\d\d-\d\d)", 1).replace(r"\{n\}", r"(?P<n>\d+)", 1)
    parent = Path(pattern).parent
    found = []
    for path in parent.iterdir() if parent.is_dir() else ():
        if path.is_dir() and (match := re.fullmatch(name, path.name)):
            said = match.groupdict()
            found.append((said.get("date", ""), int(said.get("n", 0)), path))
    return [path for *_, path in sorted(found)]


def _new(pattern: str, launchers: set[str]) -> Path:
    """Made here and now: of two runs that start at the same moment, one gets the next number. OSError: it cannot be."""
    dated = pattern.replace("{date}", date.today().isoformat())
    if "{n}" not in dated:
        return Path(dated)
    Path(dated).parent.mkdir(parents=True, exist_ok=True)
    for n in count(1):
        folder = Path(dated.replace("{n}", str(n)))
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            break
    (folder / LAUNCHED_BY).write_text("".join(f"{launcher}\n" for launcher in sorted(launchers)))
    return folder


def _remove_unused(folder: Path) -> None:
    with contextlib.suppress(OSError):
        left = list(folder.iterdir())
        if {path.name for path in left} <= {LAUNCHED_BY, LOCK}:
            for path in left:
                path.unlink()
            folder.rmdir()


def _read_launchers(run: Path) -> set[str]:
    try:
        return set((run / LAUNCHED_BY).read_text(errors="replace").splitlines())
    except OSError:
        return set()


def _launchers() -> list[str]:
    """What started this process and would start it anew after a fault: torchrun, or `accelerate launch` with several
    processes, by its host, number and start; Slurm, which queues a job again, by the job's number and the step's."""
    found, parent = [], os.getppid()
    if "TORCHELASTIC_RUN_ID" in os.environ:
        with contextlib.suppress(OSError):  # a system that does not tell
            began = Path(f"/proc/{parent}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
            found.append(f"torchrun {socket.gethostname()} {parent} {began}")
    job, step = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_STEP_ID")
    if job and step:
        found.append(f"{SLURM} {job} {step}")
    return found


def _restarted(launcher: str) -> bool:
    """What torchrun starts again is the same run; a step of a Slurm job only where the job was queued again: within one
    start of it, a shell may start several runs."""
    return not launcher.startswith(SLURM) or os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
