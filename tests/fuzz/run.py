"""Makes cases, each tried in a child that is forked from a process where all is imported, and keeps what goes wrong."""

import os
import random
import resource
import select
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
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
WALL_SECONDS = 300
"""On a machine that is busy with other things."""
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
        folder = scratch / f"{name}-{seed}-{done.cases[name]}"
        folder.mkdir()
        mutation = KINDS[name].make(good[name], folder, random.Random(f"{seed}/{name}/{done.cases[name]}"))
        problem = _try(name, folder, scratch / "work")
        done.cases[name] += 1
        if problem is not None:
            _keep(done, Finding(name, out / folder.name, mutation, problem), folder)
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
    return _try(name, folder.resolve(), scratch / "work")


def _settle() -> None:
    """Threads would be lost by a fork, and be waited for."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def _place(problem: str) -> str:
    """The last line of our own code in a traceback, and the kind of error: findings with the same are one."""
    lines = problem.splitlines()
    ours = [line.strip() for line in lines if 'File "' in line and "/tcl/" in line]
    return f"{ours[-1] if ours else ''} {lines[-1].partition(':')[0]}"


def _try(name: str, folder: Path, work: Path) -> str | None:
    """What goes wrong when the readers of a kind meet the input in `folder`; None: nothing. Nothing is left behind."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    reading, writing = os.pipe()
    before = _resident()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_the_child(name, folder, work, writing)
    os.close(writing)
    descriptor = os.pidfd_open(child)
    late = not select.select([descriptor], [], [], WALL_SECONDS)[0]
    os.close(descriptor)
    for kill in (os.killpg, os.kill):  # a child that has ended may have left others
        try:
            kill(child, signal.SIGKILL)
        except ProcessLookupError:
            continue
    _, status, used = os.wait4(child, 0)
    with open(reading, encoding="utf-8", errors="replace") as said:
        problem = said.read()
    if late:
        return f"hang: {WALL_SECONDS} seconds were not enough"
    if os.WIFSIGNALED(status):
        number = signal.Signals(os.WTERMSIG(status))
        return f"{'hang' if number == signal.SIGXCPU else 'crash'}: {number.name}"
    if list(work.rglob("PWNED")) or list(folder.rglob("PWNED")):
        return "a command was executed"
    if used.ru_maxrss * 1024 - before > MEMORY:
        return f"memory: {(used.ru_maxrss * 1024 - before) / 2**30:.1f} GiB"
    return problem or (None if status == 0 else f"ended with status {os.waitstatus_to_exitcode(status)}")


def _be_the_child(name: str, folder: Path, work: Path, writing: int) -> None:
    os.setsid()
    os.chdir(work)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 10))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, 2**30))
    virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (virtual + MEMORY + 2**30, virtual + MEMORY + 2**30))
    warnings.simplefilter("ignore")
    problem = ""
    try:
        KINDS[name].check(folder)
    except InputError as error:
        if "\n" in str(error):
            problem = f"not one line: {error}"
    except BaseException:
        problem = traceback.format_exc()
    with open(writing, "w", encoding="utf-8", errors="backslashreplace") as out:
        out.write(problem)
    sys.stdout.flush()
    os._exit(0)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
