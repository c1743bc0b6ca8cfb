"""Run by tests/test_text_assignment.py: steps of a tiny NLVR2 student and its teacher on this process' share.

torchrun --nproc_per_node 2 tests/paired_step.py OUT_DIR MODE

MODE: ddp or the name of one of configs/deepspeed. OUT_DIR/RANK.pt gets what student and teacher hold at the
end.
"""

import sys
from pathlib import Path

import torch
from tiny import MODEL, VOCABULARY, random_batch
from torch import Tensor
from two_processes import make_accelerator

from tcl.config.optim import OptimConfig
from tcl.data.batch import Batch
from tcl.data.images.image_views import Images
from tcl.data.texts.label import Labels
from tcl.models.encoders import build_encoders
from tcl.models.fused_classifier import two_image_classifier
from tcl.objectives.fused_classes import FusedClassStudent, FusedClassTeacher
from tcl.training.engine import build_engine
from tcl.training.full_weights import full_weight
from tcl.training.step import train_step

STEPS, SIZE = 4, 4


def batch_of(step: int, place: int) -> Batch:
    """Of forward pass `place` of all passes of a step."""
    batch = random_batch(SIZE, seed=10 * step + place)
    image = batch.inputs["image"]
    inputs = {"left": Images(image.view), "right": Images(image.other_view), "text": batch.inputs["text"]}
    return Batch(batch.keys, inputs | {"label": Labels(torch.arange(SIZE) % 2)})


def student_of() -> FusedClassStudent:
    torch.manual_seed(0)
    return FusedClassStudent(two_image_classifier(build_encoders(MODEL, VOCABULARY, 0), ("left", "right"), 2))


def run(mode: str, folder: Path, halves: int = 1) -> dict[str, Tensor]:
    """`halves` = 2 does both processes' passes in this one, by accumulation."""
    accelerator, student = make_accelerator(mode, "fp32", folder), student_of()
    teacher = FusedClassTeacher(student.networks, momentum=0.9)
    engine = build_engine(accelerator, student, OptimConfig(eps=1e-3))
    world, rank = accelerator.num_processes, accelerator.process_index
    for step in range(STEPS):
        batches = [batch_of(step, i * world + rank) for i in range(halves)]
        train_step(engine, teacher, batches, step=step, seed=0, learning_rate=1e-3, alpha=0.4)
    found = {f"student/{name}": full_weight(parameter).clone() for name, parameter in student.named_parameters()}
    return found | {f"teacher/{name}": value.clone() for name, value in teacher.state_dict().items()}


if __name__ == "__main__":
    out, mode = sys.argv[1:]
    outcome = run(mode, Path(out))
    torch.save(outcome, Path(out) / f"{torch.distributed.get_rank()}.pt")
