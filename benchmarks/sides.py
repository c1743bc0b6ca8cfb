"""The sides of a comparison as processes of their own: they take turns, and each one's memory can be told apart."""

import multiprocessing
import re
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

Side = Callable[[str], Any]
"""Answers a command, e.g. "step" with the seconds that one took."""


class Sides:
    """One process for each of `builds`, functions of a module that build a side from `options` (both pickled)."""

    def __init__(self, builds: dict[str, Callable[[Any], Side]], options: Any):
        spawn = multiprocessing.get_context("spawn")
        self._pipes: dict[str, Connection] = {}
        self._processes = []
        for name, build in builds.items():
            self._pipes[name], theirs = spawn.Pipe()
            process = spawn.Process(target=_serve, args=(theirs, build, options), daemon=True)
            process.start()
            self._processes.append(process)
            self.ask(name, "ready")  # one at a time: building is not to disturb another side

    def ask(self, name: str, command: str) -> Any:
        """The side's answer. RuntimeError: it failed, with its traceback."""
        self._pipes[name].send(command)
        worked, answer = self._pipes[name].recv()
        if not worked:
            raise RuntimeError(f"{name}, asked for {command}, failed:\n{answer}")
        return answer

    def in_turn(self, command: str, repeats: int) -> dict[str, list[Any]]:
        """Every side's answers over `repeats` rounds; in a round each is asked once."""
        answers: dict[str, list[Any]] = {name: [] for name in self._pipes}
        for _ in range(repeats):
            for name in self._pipes:
                answers[name].append(self.ask(name, command))
        return answers

    def __enter__(self) -> "Sides":
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            process.kill()
            process.join()


def _serve(pipe: Connection, build: Callable[[Any], Side], options: Any) -> None:
    side = None
    while True:
        command = pipe.recv()
        try:
            if side is None:
                side = build(options)
            pipe.send((True, None if command == "ready" else side(command)))
        except Exception:
            pipe.send((False, traceback.format_exc()))


class PeakMemory:
    """Bytes at most in use since it was made, beyond those in use then: of the device, on a CPU of this process."""

    def __init__(self):
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # resets the peak that the kernel keeps
            self._before = _status("VmRSS")

    def bytes(self) -> int:
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated() - self._before
        return _status("VmHWM") - self._before


def _status(name: str) -> int:
    return 1024 * int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1])
