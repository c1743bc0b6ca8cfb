"""Run by tests/test_compressed_retrieval.py: steps of both assignments on a share of the batches.

torchrun --nproc_per_node 2 tests/compressed_step.py OUT_DIR

An epoch is two steps: the codebooks of straight_through are refitted after the second and the fourth. OUT_DIR/RANK.pt
gets losses, gradients, codebooks, running statistics and the teacher's state of two processes with B pairs,
OUT_DIR/alone.pt those of one with 2 B. No weight is moved: rounding would soon choose other codes.
"""

import sys
from pathlib import Path

import torch
from tiny import MODEL, VOCABULARY, random_batch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from tcl.commands.ranks import leave_processes
from tcl.config.quantise import CodeSizes, CompressedObjective, QuantiseConfig
from tcl.data.batch import Batch
from tcl.data.images.image_views import Images
from tcl.data.texts.text_tokens import Texts
from tcl.models.compressed_encoders import CompressedEncoders
from tcl.models.compressed_heads import CompressedHeads
from tcl.models.encoders import build_encoders
from tcl.models.global_batch import gather_rows
from tcl.objectives.codebook_teacher import CodebookTeacher
from tcl.objectives.compressed_retrieval import CompressedStudent

B, STEPS, EPOCHS = 4, 4, 3
SIZES = CodeSizes(dim=16, levels=2, ghosts=1, parts=4, codewords=6)
IDS = torch.tensor([1, 2, 3, 1, 5, 2, 7, 8])
"""Some pairs show the same image, within a half and across."""


def student_of(assignment: str = "soft", itm_weight: float = 0.0, **options) -> CompressedStudent:
    torch.manual_seed(0)
    encoders = build_encoders(MODEL, VOCABULARY, pad_id=0)
    heads = CompressedHeads(encoders.image_encoder.width, encoders.text_encoder.width, SIZES, assignment == "soft")
    config = QuantiseConfig(**vars(SIZES), assignment=assignment, **options)
    return CompressedStudent(CompressedEncoders(encoders, heads), CompressedObjective(itm_weight=itm_weight), config)


def teacher_of(student: CompressedStudent, refit_pairs: int = 64) -> CodebookTeacher:
    refits = student.quantise.assignment == "straight_through"
    return CodebookTeacher(
        student.encoders.heads,
        samples=4 * B,
        step_pairs=2 * B,
        epochs=EPOCHS,
        refit_pairs=refit_pairs if refits else None,
    )


def part(step: int, rows: slice) -> Batch:
    """One sample has no word, and a shorter text is padded more or less."""
    whole = random_batch(2 * B, seed=3 + step)
    images, texts = whole.inputs["image"], whole.inputs["text"]
    texts.mask[5, 1:] = 0
    ids, mask = texts.ids[rows], texts.mask[rows]
    longest = int(mask.sum(dim=1).max())
    inputs = {"image": Images(images.view[rows]), "text": Texts(ids[:, :longest], mask[:, :longest])}
    return Batch(whole.keys[rows], inputs, IDS[rows])


def learn(assignment: str, rows: slice, parallel: bool) -> dict[str, Tensor]:
    student = student_of(assignment)
    teacher = teacher_of(student)
    module = DistributedDataParallel(student, broadcast_buffers=False) if parallel else student
    found: dict[str, Tensor] = {}
    for step in range(STEPS):
        batch = part(step, rows)
        teacher.update([])
        targets = teacher(batch, {}, 0.0)
        losses = module(batch, targets)
        losses.total.backward()
        found |= {f"loss/{step}/{name}": value.detach() for name, value in losses.each.items()}
        found[f"share/{step}"] = losses.metrics["plain_share"]
        found |= {f"grad/{step}/{n}": p.grad.clone() for n, p in student.named_parameters() if p.grad is not None}
        student.zero_grad()
        teacher.enqueue({name: gather_rows(own) for name, own in targets.to_enqueue(B).items()})
        found[f"state/{step}/codebooks"] = student.encoders.heads.quantiser.codebooks.detach().clone()
    found |= {f"state/end/{name}": value.clone() for name, value in student.state_dict().items() if "running" in name}
    found |= {f"state/teacher/{name}": value.clone() for name, value in teacher.state_dict().items()}
    return {f"{assignment}/{name}": value for name, value in found.items()}


if __name__ == "__main__":
    out = Path(sys.argv[1])
    kinds = ("soft", "straight_through")
    alone = {name: value for kind in kinds for name, value in learn(kind, slice(None), parallel=False).items()}
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    if rank == 0:
        torch.save(alone, out / "alone.pt")
    rows = slice(rank * B, (rank + 1) * B)
    shared = {name: value for kind in kinds for name, value in learn(kind, rows, parallel=True).items()}
    torch.save(shared, out / f"{rank}.pt")
    leave_processes(0)
