"""Run by tests/test_clip.py: one forward and backward with objective.global_negatives on a share of a batch.

torchrun --nproc_per_node 2 tests/clip_step.py OUT_DIR
"""

import sys
from pathlib import Path

import torch
from tiny import MODEL, VOCABULARY, random_batch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from tcl.commands.ranks import leave_processes
from tcl.config.clip_objective import CLIPObjectiveConfig
from tcl.data.batch import Batch
from tcl.data.images.image_views import Images
from tcl.data.texts.text_tokens import Texts
from tcl.models.encoders import build_towers
from tcl.models.no_teacher import NoTargets
from tcl.objectives.clip import CLIPStudent

B = 4
IDS = torch.tensor([1, 2, 3, 1, 5, 2, 7, 8])
"""Some pairs show the same image, within a half and across."""
HAS_IMAGE = torch.tensor([1, 1, 0, 1, 1, 1, 1, 1], dtype=torch.bool)


def part(rows: slice) -> Batch:
    whole = random_batch(2 * B, seed=3)
    images, texts = whole.inputs["image"], whole.inputs["text"]
    inputs = {"image": Images(images.view[rows]), "text": Texts(texts.ids[rows], texts.mask[rows])}
    return Batch(whole.keys[rows], inputs, IDS[rows], {"image": HAS_IMAGE[rows]})


def student_of(loss: str) -> CLIPStudent:
    torch.manual_seed(0)
    return CLIPStudent(
        build_towers(MODEL, VOCABULARY, pad_id=0), CLIPObjectiveConfig(loss=loss, global_negatives=True, bias=-1.0)
    )


def learn(loss: str, rows: slice, weight: float, parallel: bool) -> dict[str, Tensor]:
    """weight: of this part's rows in the whole batch, as a process' mean is over its own."""
    student = student_of(loss)
    module = DistributedDataParallel(student, broadcast_buffers=False) if parallel else student
    losses = module(part(rows), NoTargets())
    (losses.total * weight).backward()
    gradients = {f"{loss}/gradient/{name}": p.grad for name, p in student.named_parameters()}
    return {f"{loss}/{name}": weight * value.detach() for name, value in losses.each.items()} | gradients


if __name__ == "__main__":
    out = Path(sys.argv[1])
    alone: dict[str, Tensor] = {}
    for loss in ("softmax", "sigmoid"):
        alone |= learn(loss, slice(None), 1.0, parallel=False)  # no process group yet
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    if rank == 0:
        torch.save(alone, out / "alone.pt")
    rows = slice(rank * B, (rank + 1) * B)
    weight = 2 * HAS_IMAGE[rows].sum().item() / HAS_IMAGE.sum().item()  # DDP takes the mean of two
    found: dict[str, Tensor] = {}
    for loss in ("softmax", "sigmoid"):
        found |= learn(loss, rows, weight, parallel=True)
    torch.save(found, out / f"{rank}.pt")
    leave_processes(0)
