"""Run by tests/test_distributed.py: one forward and backward with objective.global_negatives on a share of a batch.

torchrun --nproc_per_node 2 tests/global_step.py OUT_DIR
"""

import sys
from dataclasses import fields, replace
from pathlib import Path

import torch
from tiny import random_batch, tiny_models
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from tcl.config.tcl_objective import ObjectiveConfig
from tcl.data.batch import Batch
from tcl.models.global_batch import pad_to_longest
from tcl.objectives.tcl import Negatives, draw_batch_negatives

B, L = 4, 7
OBJECTIVE = ObjectiveConfig(queue_size=12, global_negatives=True)


def whole_batch() -> Batch:
    """2 B pairs; the texts of the second half are shorter, and more of its tokens are masked."""
    batch = random_batch(2 * B, seed=3, length=L)
    batch.attention_mask[B:, 5:] = 0
    extra = torch.tensor([(B + b) * L + 2 for b in range(B - 1)])
    batch.masked_ids.flatten()[extra] = 4
    return replace(
        batch,
        mask_positions=torch.cat([batch.mask_positions, extra]),
        mask_labels=torch.cat([batch.mask_labels, batch.input_ids.flatten()[extra]]),
    )


def half(batch: Batch, rank: int) -> Batch:
    """What the loader of `rank` would give: B pairs, padded to their own longest text."""
    rows, length = slice(rank * B, (rank + 1) * B), (L, 5)[rank]
    own = (batch.mask_positions // L >= rows.start) & (batch.mask_positions // L < rows.stop)
    positions = batch.mask_positions[own] - rank * B * L
    per_pair = [f.name for f in fields(batch) if not f.name.startswith("mask_") and f.name != "image_ids"]
    cut = {name: getattr(batch, name)[rows] for name in per_pair}
    for name in ("input_ids", "attention_mask", "masked_ids"):
        cut[name] = cut[name][:, :length]
    return Batch(**cut, mask_positions=positions // L * length + positions % L, mask_labels=batch.mask_labels[own])


def negatives_of(rows: slice) -> Negatives:
    """The same draw for both: the image of the next pair but two, the text of the next but four, of 2 B."""
    own = torch.arange(2 * B)
    valid = torch.ones(2 * B, dtype=torch.bool)
    return Negatives((own + 3)[rows] % (2 * B), (own + 5)[rows] % (2 * B), valid[rows], valid[rows])


def learn(batch: Batch, rows: slice, parallel: bool) -> dict[str, Tensor]:
    student, teacher = tiny_models(OBJECTIVE)
    module = DistributedDataParallel(student, broadcast_buffers=False) if parallel else student
    targets = teacher(batch, student.temperature.detach(), 0.4)
    losses = module(batch, targets, negatives_of(rows))
    losses.total(OBJECTIVE).backward()
    gradients = {f"gradient/{n}": p.grad for n, p in student.named_parameters() if p.grad is not None}
    seen = {name: value.detach() for name, value in losses._asdict().items() if value is not None}
    candidates = {
        "image_candidates": torch.cat(targets.image_candidates),
        "text_candidates": torch.cat(targets.text_candidates),
    }
    logits = torch.zeros(B, len(targets.image_candidates[0]))
    draws = [draw_batch_negatives(logits, logits, targets.first) for _ in range(50)]
    drawn = torch.stack([one for draw in draws for one in (draw.images, draw.texts)])
    return seen | gradients | candidates | {"drawn": drawn}


if __name__ == "__main__":
    out = Path(sys.argv[1])
    alone = learn(whole_batch(), slice(None), parallel=False)  # no process group yet
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    if rank == 0:
        torch.save(alone, out / "alone.pt")
    batch = pad_to_longest(half(whole_batch(), rank))
    torch.save(learn(batch, slice(rank * B, (rank + 1) * B), parallel=True), out / f"{rank}.pt")
