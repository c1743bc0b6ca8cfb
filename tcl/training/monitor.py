"""What a person sees of a run: progress bar or lines, metrics.jsonl, and accelerate's trackers."""

import json
import sys
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from tqdm import tqdm

from tcl.runs.metrics_file import append_row, forget_rows_after
from tcl.runs.together import raise_together
from tcl.shown import shown
from tcl.training.step import StepResult


class Monitor:
    """Collects the scalars of each step and writes a row every `log_every` steps (main process only).

    To be made, and written to, on every process. InputError on all of them: metrics.jsonl cannot be written.
    """

    def __init__(
        self, accelerator: Accelerator, output_dir: Path, *, first_step: int, total_steps: int, log_every: int
    ):
        self.accelerator = accelerator
        self.total_steps = total_steps
        self.log_every = log_every
        self.notices: list[str] = []
        """Lines for the person watching about rows that were damaged."""
        self._window: list[StepResult] = []
        self._samples = 0
        self._waiting = 0.0
        self._since = time.perf_counter()
        self._bar = None
        self._file = None
        self._path = output_dir / "metrics.jsonl"
        problem = None
        if accelerator.is_main_process:
            try:
                self.notices = forget_rows_after(self._path, first_step)
                self._file = self._path.open("ab", buffering=0)
            except OSError as error:
                problem = self._cannot_be_written(error)
            if sys.stderr.isatty():
                self._bar = tqdm(total=total_steps, initial=first_step, unit="step", dynamic_ncols=True)
        raise_together(problem)

    def step(
        self, result: StepResult, *, step: int, epoch: float, learning_rate: float, samples: int, waited: float
    ) -> None:
        """After optimiser step number `step` (from 1): `samples` over all processes, `waited` seconds for data."""
        self._window.append(result)
        self._samples += samples
        self._waiting += waited
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
        if step % self.log_every and step != self.total_steps:
            return
        means = self._means()
        elapsed = time.perf_counter() - self._since
        row = {"step": step, "epoch": round(epoch, 4), **means}
        row |= {
            "learning_rate": learning_rate,
            "samples_per_second": self._samples / elapsed,
            "data_wait": self._waiting / elapsed,
            "eta_seconds": (self.total_steps - step) * elapsed / len(self._window),
        }
        self._window, self._samples, self._waiting = [], 0, 0.0
        self._since = time.perf_counter()
        self.write(row)
        self.say(_line(row, list(means), self.total_steps))

    def _means(self) -> dict[str, float]:
        """Of all scalars, over the steps since the last row and over the processes; the total loss first."""
        rows = [{"loss": one.losses.total, **one.losses.each, **one.metrics} for one in self._window]
        means = torch.stack([torch.stack([row[name].float() for row in rows]).mean() for name in rows[0]])
        return dict(zip(rows[0], self.accelerator.reduce(means, reduction="mean").tolist(), strict=True))

    def write(self, row: dict[str, float]) -> None:
        """A row of metrics.jsonl and of the trackers; `row["step"]` is its step."""
        problem = None
        if self._file is not None:
            try:
                append_row(self._file, json.dumps(row).encode() + b"\n")
            except OSError as error:
                problem = self._cannot_be_written(error)
        raise_together(problem)
        self.accelerator.log({name: value for name, value in row.items() if name != "step"}, step=row["step"])

    def _cannot_be_written(self, error: OSError) -> str:
        return (
            f"output_dir: {self._path} cannot be written ({error.strerror or error}); make room or name another "
            f"folder. Its rows are kept, and the run goes on from its newest checkpoint"
        )

    def say(self, line: str) -> None:
        """A line for the person watching, above the progress bar where there is one."""
        if self.accelerator.is_main_process:
            tqdm.write(shown(line), file=sys.stderr if self._bar is not None else sys.stdout)
            sys.stdout.flush()

    def pause(self) -> float:
        """Start of something that is not training; give the result to `resume`."""
        return time.perf_counter()

    def resume(self, paused: float) -> None:
        """Leave the time since `paused` out of samples per second and ETA."""
        self._since += time.perf_counter() - paused

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        if self._file is not None:
            self._file.close()


def _line(row: dict[str, float], scalars: list[str], total_steps: int) -> str:
    parts = [f"step {row['step']}/{total_steps} epoch {row['epoch']:.2f}"]
    parts += [f"{name} {row[name]:.3f}" for name in scalars]
    minutes, seconds = divmod(int(row["eta_seconds"]), 60)
    parts += [
        f"lr {row['learning_rate']:.2e}",
        f"{row['samples_per_second']:.0f} samples/s, waiting {row['data_wait']:.0%}, ETA {minutes}:{seconds:02d}",
    ]
    return " | ".join(parts)
