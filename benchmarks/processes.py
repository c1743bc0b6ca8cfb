"""One process against two, DDP against ZeRO 1 to 3, and what checkpoints and resuming cost in each.

    python -m benchmarks.processes [--pairs 16 --rounds 1 --repeats 3]

The small model of benchmarks/small_model.py in fp32 on CPU cores, the same pairs a step however many processes share
them (gloo). Every round starts each kind of run once, in turn; medians are over all repeats of all rounds.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, fields
from itertools import chain
from pathlib import Path

import jsonargparse

from benchmarks.measure import save
from benchmarks.process_steps import BLOCK, Measured


@dataclass(frozen=True)
class Launch:
    """A kind of run."""

    processes: int
    threads: int
    """Of each process."""
    mode: str
    """One of small_model.MODES."""


LAUNCHES = {
    "1 process": Launch(1, 1, "ddp"),
    "1, two threads": Launch(1, 2, "ddp"),
    "2, DDP": Launch(2, 1, "ddp"),
    "2, ZeRO 1": Launch(2, 1, "zero1"),
    "2, ZeRO 2": Launch(2, 1, "zero2"),
    "2, ZeRO 3": Launch(2, 1, "zero3"),
}


@dataclass
class Costs:
    """Medians of one kind of run: seconds, and bytes."""

    step: float
    pairs_per_second: float
    peak_bytes: int
    """Of the main process."""
    save: float
    """Of the call that writes a checkpoint."""
    hand_over: float
    """Of the call that leaves the writing to a thread."""
    added: float
    """To the run by a checkpoint: the call and what the steps after it lose."""
    added_with_thread: float
    """The same where a thread writes it."""
    resume: float
    checkpoint_bytes: int


def launch(kind: Launch, pairs: int, repeats: int) -> Measured:
    """A run of its own. RuntimeError: it failed, with what it wrote to stderr."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={kind.processes}"]
        command += ["-m", "benchmarks.process_steps", f"--mode={kind.mode}", f"--batch={pairs // kind.processes}"]
        command += [f"--repeats={repeats}", f"--folder={folder}"]
        # Without a GPU: there may be one, and two processes cannot share it.
        environment = os.environ | {"OMP_NUM_THREADS": str(kind.threads), "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{kind} failed:\n{done.stderr}")
        return Measured(**json.loads((Path(folder) / "measured.json").read_text()))


def joined(rounds: list[Measured]) -> Measured:
    """The repeats of all rounds as those of one; of bytes the most."""
    values = {field.name: [getattr(one, field.name) for one in rounds] for field in fields(Measured)}
    return Measured(**{k: [*chain(*v)] if isinstance(v[0], list) else max(v) for k, v in values.items()})


def costs(measured: Measured, pairs: int) -> Costs:
    """`pairs` of a step, over all processes."""
    step = statistics.median(measured.steps) / BLOCK

    def added(blocks: list[float]) -> float:
        return statistics.median(b - a for a, b in zip(measured.steps, blocks, strict=True))

    return Costs(
        step=step,
        pairs_per_second=pairs / step,
        peak_bytes=measured.peak_bytes,
        save=statistics.median(measured.save),
        hand_over=statistics.median(measured.hand_over),
        added=added(measured.steps_and_save),
        added_with_thread=added(measured.steps_and_thread),
        resume=statistics.median(measured.resume),
        checkpoint_bytes=measured.checkpoint_bytes,
    )


def main(pairs: int = 16, rounds: int = 1, repeats: int = 3) -> None:
    """pairs: of a step, over all processes; even. rounds: starts of each kind of run. repeats: within each of them."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the result is the CPU's, and is to be named after it
    runs: dict[str, list[Measured]] = {name: [] for name in LAUNCHES}
    for _ in range(rounds):
        for name, kind in LAUNCHES.items():
            runs[name].append(launch(kind, pairs, repeats))
    measured = {name: joined(of_kind) for name, of_kind in runs.items()}
    found = {name: costs(of_kind, pairs) for name, of_kind in measured.items()}
    print(f"{pairs} pairs a step; checkpoints of {found['1 process'].checkpoint_bytes / 2**20:.0f} MiB; seconds")
    print("                 pairs/s  of 1  of DDP  peak MiB    save  adds  in a thread: call  adds   resume")
    for name, cost in found.items():
        speed = cost.pairs_per_second
        print(
            f"  {name:14s} {speed:7.1f} {speed / found['1 process'].pairs_per_second:5.2f} "
            f"{speed / found['2, DDP'].pairs_per_second:7.2f} {cost.peak_bytes / 2**20:9.0f} {cost.save:7.2f} "
            f"{cost.added:5.2f} {cost.hand_over:18.2f} {cost.added_with_thread:5.2f} {cost.resume:8.2f}"
        )
    result = {name: {"costs": asdict(found[name]), "measured": asdict(measured[name])} for name in LAUNCHES}
    print(save("processes", {"pairs": pairs, "block": BLOCK, "runs": result}))


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
