"""Run by tests/test_two_processes.py: three steps of a tiny TCL on this process' share of the batches.

torchrun --nproc_per_node 2 tests/two_processes.py OUT_DIR
"""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from tiny import random_batch, tiny_models

from tcl.config import OptimConfig
from tcl.data.batch import Batch
from tcl.training.optim import build_optimizer
from tcl.training.step import train_step

STEPS, SIZE = 3, 4


def batch_of(step: int, place: int) -> Batch:
    """The batch of forward pass `place` of all passes of a step, over processes and accumulation."""
    return random_batch(SIZE, seed=10 * step + place)


def run(passes_per_process: int) -> dict[str, torch.Tensor]:
    """Losses of every step and the state after the last, on this process."""
    accelerator = Accelerator(cpu=True, kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)])
    student, teacher = tiny_models()
    engine, optimizer = accelerator.prepare(student, build_optimizer(student, OptimConfig()))
    result = {}
    for step in range(STEPS):
        world, rank = accelerator.num_processes, accelerator.process_index
        batches = [batch_of(step, i * world + rank) for i in range(passes_per_process)]
        scalars = train_step(
            accelerator,
            student,
            engine,
            teacher,
            optimizer,
            batches,
            step=step,
            seed=0,
            learning_rate=1e-3,
            alpha=0.4,
            clip_grad_norm=1.0,
        ).scalars
        result |= {f"{step}/{name}": value for name, value in scalars.items()}
    result |= {f"student/{name}": value.clone() for name, value in student.state_dict().items()}
    return result | {f"teacher/{name}": value.clone() for name, value in teacher.state_dict().items()}


if __name__ == "__main__":
    outcome = run(passes_per_process=1)
    torch.save(outcome, Path(sys.argv[1]) / f"{Accelerator().process_index}.pt")
