"""Run by tests/test_compression.py: steps of the task `compress` on this process' share of the batches.

torchrun --nproc_per_node 2 tests/compress_step.py OUT_DIR

OUT_DIR/RANK.pt gets the losses of every step and the weights after the last.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from tiny import MODEL, VOCABULARY, random_batch
from torch import Tensor, distributed

from tcl.config.compression_objective import CompressionObjectiveConfig
from tcl.config.model import FusionConfig
from tcl.config.optim import OptimConfig
from tcl.config.train import TrainConfig
from tcl.models.encoders import build_encoders
from tcl.models.no_teacher import NoTeacher
from tcl.objectives.compression import CompressionStudent
from tcl.objectives.hard_negatives import Negatives
from tcl.tasks.pretrain import Config as PretrainConfig
from tcl.training.accelerator import build_accelerator
from tcl.training.engine import PlainEngine
from tcl.training.step import train_step

STEPS, SIZE = 3, 4
COMPRESSED = replace(MODEL, fusion=FusionConfig(image_tokens=2))


class GivenNegatives(CompressionStudent):
    """Draws nothing: the number of processes changes which random numbers there are."""

    def forward(self, batch, targets):
        own, all_count = torch.arange(len(batch)), torch.ones(len(batch), dtype=torch.bool)
        return super().forward(batch, targets, Negatives((own + 1) % SIZE, (own + 2) % SIZE, all_count, all_count))


def run(folder: Path, halves: int = 1) -> dict[str, Tensor]:
    """halves = 2: both processes' passes in this one, by accumulation."""
    accelerator = build_accelerator(
        PretrainConfig(train=TrainConfig(batch_size=SIZE, precision="fp32"), output_dir=str(folder))
    )
    torch.manual_seed(0)
    student = GivenNegatives(build_encoders(COMPRESSED, VOCABULARY, pad_id=0), CompressionObjectiveConfig())
    engine = PlainEngine(accelerator, student, OptimConfig(eps=1e-3))
    world, rank, seen = accelerator.num_processes, accelerator.process_index, {}
    for step in range(STEPS):
        batches = [random_batch(SIZE, seed=10 * step + i * world + rank) for i in range(halves)]
        done = train_step(engine, NoTeacher(), batches, step=step, seed=0, learning_rate=1e-2, alpha=0.0)
        seen |= {f"{step}/{name}": value for name, value in done.losses.each.items()}
    return seen | {f"student/{name}": value.detach().clone() for name, value in student.state_dict().items()}


if __name__ == "__main__":
    out = Path(sys.argv[1])
    outcome = run(out)
    torch.save(outcome, out / f"{distributed.get_rank()}.pt")
