"""Run by benchmarks.processes: seconds of steps, of checkpoints and of resuming, on this process among the others.

    torchrun --nproc_per_node 2 -m benchmarks.process_steps --mode zero2 --batch 8 --repeats 2 --folder EMPTY_FOLDER

FOLDER/measured.json gets what the main process saw, a Measured.
"""

import json
import logging
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import jsonargparse
from accelerate import Accelerator, PartialState

from benchmarks.measure import interleaved
from benchmarks.sides import PeakMemory
from benchmarks.small_model import build_models, config_of, random_batch
from tcl.checkpoints.checkpoint_store import CheckpointStore
from tcl.data.batch import Batch
from tcl.data.feed.loader_state import DataIdentity, LoaderState
from tcl.models.global_batch import world
from tcl.objectives.tcl_teacher import TCLTeacher
from tcl.training.accelerator import build_accelerator
from tcl.training.checkpoint import checkpoint_to_resume, finish_saving, load_checkpoint, save_checkpoint
from tcl.training.engine import Engine, build_engine
from tcl.training.host_memory import keep_freed_memory
from tcl.training.step import train_step

BLOCK = 5
"""Steps that are timed together: enough for a write in the background to end among them."""
POSITION = LoaderState(workers=(), next_worker=0, data=DataIdentity(seed=0, shuffle_buffer=0, sources=()))


@dataclass
class Measured:
    """Seconds, a value for each repeat, and bytes."""

    steps: list[float]
    """Of BLOCK steps."""
    steps_and_save: list[float]
    """Of a checkpoint and BLOCK steps."""
    steps_and_thread: list[float]
    """The same with a checkpoint that a thread writes, until it is on disk."""
    save: list[float]
    """Of the call that writes a checkpoint."""
    hand_over: list[float]
    """Of the call that copies it and leaves the writing to a thread."""
    resume: list[float]
    """Of finding the newest checkpoint, checking its files (in the page cache) and loading it."""
    peak_bytes: int
    """At most in use in this process while it took steps, since before the models were built."""
    checkpoint_bytes: int


@dataclass
class _Run:
    accelerator: Accelerator
    engine: Engine
    teacher: TCLTeacher
    batch: Batch


def measure(mode: str, B: int, repeats: int, folder: Path) -> Measured:
    """B pairs in this process' batch; checkpoints go into `folder`. Called on every process."""
    config = config_of(mode, B)
    accelerator = build_accelerator(config)
    keep_freed_memory()
    memory = PeakMemory()
    student, teacher = build_models(config)
    engine = build_engine(accelerator, student, config.optim)
    run = _Run(accelerator, engine, teacher, random_batch(B, seed=world()[0]))
    _steps(run)
    peak = memory.bytes()
    calls, hand_overs = [], []
    written = CheckpointStore(folder / "written", keep=1, asynchronous=False)
    handed_over = CheckpointStore(folder / "handed_over", keep=1, asynchronous=True)
    sides = {
        "steps": partial(_steps, run),
        "save": partial(_save_and_steps, run, written, calls),
        "thread": partial(_save_and_steps, run, handed_over, hand_overs),
    }
    seconds = interleaved(sides, repeats)
    resumes = interleaved({"resume": partial(_resume, run, written.folder)}, repeats)["resume"]
    size = sum(path.stat().st_size for path in _newest(run, written.folder).iterdir())
    return Measured(
        seconds["steps"], seconds["save"], seconds["thread"], calls, hand_overs, resumes, peak, checkpoint_bytes=size
    )


def _steps(run: _Run) -> None:
    for _ in range(BLOCK):
        train_step(run.engine, run.teacher, [run.batch], step=0, seed=0, learning_rate=1e-4, alpha=0.4)


def _save_and_steps(run: _Run, store: CheckpointStore, calls: list[float]) -> None:
    """Adds the seconds of the call to `calls`."""
    started = time.perf_counter()
    save_checkpoint(
        run.accelerator,
        store,
        run.engine,
        run.teacher,
        step=len(calls),
        samples=0,
        first_batch=len(run.batch),
        best_score=None,
        loader=POSITION,
        is_best=False,
    )
    calls.append(time.perf_counter() - started)
    _steps(run)
    finish_saving(store)


def _newest(run: _Run, folder: Path) -> Path:
    return checkpoint_to_resume(run.accelerator, "auto", folder)[0]


def _resume(run: _Run, folder: Path) -> None:
    load_checkpoint(_newest(run, folder), run.engine, run.teacher)


def main(mode: str, batch: int, repeats: int, folder: Path) -> None:
    """mode: one of small_model.MODES. batch: pairs a process. repeats: of every measurement. folder: empty."""
    logging.disable(logging.WARNING)
    measured = measure(mode, batch, repeats, folder)
    if world()[0] == 0:
        (folder / "measured.json").write_text(json.dumps(asdict(measured)))
    state = PartialState()
    state.wait_for_everyone()  # a process that leaves while another still receives from it breaks that one off
    state.destroy_process_group()


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
