"""Run by tests/test_clips.py: forward and backward of the objective of clips on a share of a batch.

torchrun --nproc_per_node 2 tests/clips_step.py OUT_DIR
"""

import sys
from itertools import product
from pathlib import Path

import torch
from tiny_clips import clips_batch, clips_model, clips_student
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from tcl.commands.ranks import leave_processes
from tcl.config.clips_objective import ClipsObjectiveConfig
from tcl.data.batch import Batch, map_tensors
from tcl.models.no_teacher import NoTargets

B = 4
CASES = dict(enumerate(product(("fac", "disjoint", "shared"), (0.0, 0.5))))
"""Graph, and the weight of sound with text."""


def half(batch: Batch, rank: int) -> Batch:
    rows = slice(rank * B, (rank + 1) * B)
    shared = map_tensors(batch, lambda tensor: tensor[rows])
    shared.keys = batch.keys[rows]
    return shared


def learn(batch: Batch, graph: str, at_weight: float, parallel: bool) -> dict[str, Tensor]:
    student = clips_student(ClipsObjectiveConfig(at_weight=at_weight, vt_weight=2.0), clips_model(graph))
    module = DistributedDataParallel(student, broadcast_buffers=False) if parallel else student
    losses = module(batch, NoTargets())
    losses.total.backward()
    gradients = {f"gradient/{n}": p.grad for n, p in student.named_parameters() if p.requires_grad}
    seen = {f"seen/{name}": tensor for name, tensor in student.named_buffers()}
    return {name: loss.detach() for name, loss in losses.each.items()} | gradients | seen


if __name__ == "__main__":
    out = Path(sys.argv[1])
    batch = clips_batch(2 * B, seed=3)
    alone = {case: learn(batch, *sizes, parallel=False) for case, sizes in CASES.items()}  # no process group yet
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    if rank == 0:
        torch.save(alone, out / "alone.pt")
    shares = {case: learn(half(batch, rank), *sizes, parallel=True) for case, sizes in CASES.items()}
    torch.save(shares, out / f"{rank}.pt")
    leave_processes(0)
