"""Makes cases, tried in children that are forked from a process where all is imported, and keeps what goes wrong."""

import faulthandler
import os
import random
import resource
import select
import shutil
import signal
import time
import traceback
import warnings
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import cv2
import torch

from tcl.errors import InputError
from tests.fuzz import annotations, configs, exports, images, runs, shards, texts

KINDS: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (shards, images, texts, annotations, configs, runs, exports)
}
"""Each has prepare(folder): what good inputs are made of; make(good, folder, rng) -> what was changed: an input in
`folder`; check(folder): the real readers on it. Whatever check raises, other than InputError, is a finding."""

CPU_SECONDS = 30
WALL_SECONDS = 600
"""For AT_A_TIME cases, on a machine that is busy with other things."""
AT_A_TIME = 20
"""Cases of a child: forking a process that has imported everything takes as long as this many."""
MEMORY = 2 * 2**30
"""Bytes more than before the case."""


@dataclass
class Finding:
    """Something that went wrong, and the folder that holds the input of its first case."""

    kind: str
    where: Path
    mutation: str
    problem: str
    count: int = 1


@dataclass
class Done:
    """What came of fuzzing."""

    cases: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)


def fuzz(names: list[str], seed: int, seconds: float, scratch: Path, out: Path) -> Done:
    """Cases until the time is over, of which every kind gets its share; case n of a kind depends on the seed and n."""
    _settle()
    good = {name: scratch / "good" / name for name in names}
    for name, folder in good.items():
        folder.mkdir(parents=True)
        KINDS[name].prepare(folder)
    done, spent, start = Done(), dict.fromkeys(names, 0.0), time.monotonic()
    while sum(spent.values()) < seconds or not all(done.cases[name] for name in names):
        name = min(names, key=spent.__getitem__)
        folders, mutations = [], []
        for number in range(done.cases[name], done.cases[name] + AT_A_TIME):
            folders.append(scratch / f"{name}-{seed}-{number}")
            folders[-1].mkdir()
            mutations.append(KINDS[name].make(good[name], folders[-1], random.Random(f"{seed}/{name}/{number}")))
        tried, problem = try_cases(name, folders, scratch / "work")
        done.cases[name] += tried
        if problem is not None:
            _keep(done, Finding(name, out / folders[tried - 1].name, mutations[tried - 1], problem), folders[tried - 1])
        for folder in folders:
            shutil.rmtree(folder)
        now = time.monotonic()
        spent[name] += now - start
        start = now
    return done


def _keep(done: Done, finding: Finding, folder: Path) -> None:
    """Findings at the same place of our code are one."""
    for known in done.findings:
        if (known.kind, _place(known.problem)) == (finding.kind, _place(finding.problem)):
            known.count += 1
            return
    done.findings.append(finding)
    shutil.rmtree(finding.where, ignore_errors=True)
    shutil.copytree(folder, finding.where, symlinks=True)
    said = f"{finding.mutation}\n{finding.problem}\n"
    finding.where.with_name(finding.where.name + ".txt").write_text(said, errors="backslashreplace")
    print(f"{finding.where}: {finding.mutation!a}: {finding.problem.splitlines()[-1][:200]}", flush=True)


def replay(folder: Path, scratch: Path) -> str | None:
    """What goes wrong with the input of a finding; None: nothing any more."""
    _settle()
    name = folder.name.partition("-")[0]
    KINDS[name].prepare(scratch)
    return try_cases(name, [folder.resolve()], scratch / "work")[1]


def _settle() -> None:
    """Threads would be lost by a fork, and be waited for."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def _place(problem: str) -> str:
    """The last line of our own code in a traceback, and the kind of error: findings with the same are one."""
    lines = problem.splitlines()
    ours = [line.strip() for line in lines if 'File "' in line and "/tcl/" in line]
    return f"{ours[-1] if ours else ''} {lines[-1].partition(':')[0]}"


def try_cases(name: str, folders: list[Path], work: Path) -> tuple[int, str | None]:
    """What goes wrong when the readers of a kind meet the inputs in `folders`: (how many were tried, what is wrong with
    the last of these). A child tries them one after the other until something is wrong; it works in `work`."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_the_child(name, folders, work, writing)
    os.close(writing)
    descriptor = os.pidfd_open(child)
    late = not select.select([descriptor], [], [], WALL_SECONDS)[0]
    os.close(descriptor)
    for kill in (os.killpg, os.kill):  # a child that has ended may have left others
        with suppress(ProcessLookupError):
            kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with open(reading, encoding="utf-8", errors="replace") as said:
        begun, _, problem = said.read().partition("\n")
    if late:
        problem = f"hang: {WALL_SECONDS} seconds were not enough"
    elif os.WIFSIGNALED(status):
        number = signal.Signals(os.WTERMSIG(status))
        problem = f"{'hang' if number == signal.SIGXCPU else 'crash'}: {number.name}"
    elif status != 0:
        problem = f"ended with status {os.waitstatus_to_exitcode(status)}"
    return len(begun), problem or None


def _be_the_child(name: str, folders: list[Path], work: Path, writing: int) -> None:
    """Writes a dot for every case that is begun, and what is wrong with the last, if anything is."""
    os.setsid()
    os.chdir(work)
    faulthandler.disable()
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + MEMORY + 2**30, virtual + MEMORY + 2**30))
    warnings.simplefilter("ignore")
    before = _peak_memory()
    for folder in folders:
        os.write(writing, b".")
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + CPU_SECONDS, resource.RLIM_INFINITY))
        problem = _check(name, folder)
        if list(work.rglob("PWNED")) or list(folder.rglob("PWNED")):
            problem = "a command was executed"
        elif _peak_memory() - before > MEMORY:
            problem = f"memory: {(_peak_memory() - before) / 2**30:.1f} GiB"
        if problem is not None:
            with open(writing, "w", encoding="utf-8", errors="backslashreplace") as out:
                out.write(f"\n{problem}")
            break
        for path in work.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    os._exit(0)


def _check(name: str, folder: Path) -> str | None:
    try:
        KINDS[name].check(folder)
    except InputError as error:
        return f"not one line: {error}" if "\n" in str(error) else None
    except BaseException:
        return traceback.format_exc()
    return None


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
