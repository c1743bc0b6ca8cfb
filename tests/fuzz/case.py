"""Mutated inputs, read in a process of its own: what they must not do is raise, hang, crash, swell or run commands."""

import faulthandler
import os
import resource
import select
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

from tcl.errors import InputError
from tests.fuzz.mutate import MARKER

CPU_SECONDS = 30
"""Of a case that is to read a few kilobytes; on a loaded machine it takes longer by the clock, but no more work."""
WALL_SECONDS = 120
"""A case that waits for something, and works on nothing, would wait for ever."""
MEMORY_BYTES = 2 << 30
"""More than that a small input may not take."""


END = "\0"
"""The last that a child says: without it, a reader ended the process and the cases after it were not read."""


class Wrong(Exception):
    """A reader accepted what it should have refused, or lost something."""


def run_cases(read: Callable[[Path], None], folders: list[Path]) -> str | None:
    """What is wrong when `read` is called in each of `folders`, as in a new process; None: nothing.

    InputError is the right answer to a damaged input. The process is a fork, so that none of it is imported again.
    """
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        status = 1
        try:
            status = _in_child(read, folders, sending)
        finally:  # whatever happens, the fork does not go on with the parent's work
            os._exit(status)
    os.close(sending)
    said = _listen(receiving, child)
    _, status, used = os.wait4(child, 0)
    os.close(receiving)
    grown = used.ru_maxrss * 1024 - _resident()
    if any((folder / MARKER).exists() for folder in folders):
        return "a command was run"
    if said is None:
        return f"still waiting after {WALL_SECONDS} s"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        hung = number in (signal.SIGXCPU, signal.SIGKILL)
        return f"more than {CPU_SECONDS} s of work" if hung else f"crashed: {signal.Signals(number).name}"
    if grown > MEMORY_BYTES:
        return f"took {grown >> 20:,} MiB"
    if not said.endswith(END):
        return f"ended the process with status {os.WEXITSTATUS(status)}"
    return said.removesuffix(END) or None


def _in_child(read: Callable[[Path], None], folders: list[Path], sending: int) -> int:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    address_space = _pages(0) * resource.getpagesize() + 2 * MEMORY_BYTES  # the machine is spared the worst
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    faulthandler.disable()
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    said = "".join(_say(read, folder) for folder in folders)
    with open(sending, "wb") as file:
        file.write((said + END).encode("utf-8", "backslashreplace"))
    return 0


def _say(read: Callable[[Path], None], folder: Path) -> str:
    os.chdir(folder)
    try:
        read(folder)
    except InputError as error:
        return "" if len(str(error).splitlines()) == 1 else f"not one line: {str(error)!r}"
    except BaseException:
        return traceback.format_exc()
    return ""


def _listen(receiving: int, child: int) -> str | None:
    """What the child says until its end; None where it had to be killed."""
    said = b""
    while select.select([receiving], [], [], WALL_SECONDS)[0]:
        piece = os.read(receiving, 1 << 16)
        if not piece:
            return said.decode()
        said += piece
    os.kill(child, signal.SIGKILL)
    return None


def _resident() -> int:
    return _pages(1) * resource.getpagesize()


def _pages(column: int) -> int:
    """0: of address space, 1: resident."""
    return int(Path("/proc/self/statm").read_text().split()[column])
