"""Run by tests/test_distributed.py: one forward and backward with objective.global_negatives on a share of a batch.

torchrun --nproc_per_node 2 tests/global_step.py OUT_DIR
"""

import sys
from pathlib import Path

import torch
from tiny import random_batch, tiny_models
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from tcl.commands.ranks import leave_processes
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.data.batch import Batch
from tcl.data.images.image_views import Images
from tcl.data.texts.masking import MaskedText
from tcl.data.texts.text_tokens import Texts
from tcl.models.global_batch import pad_to_longest
from tcl.objectives.hard_negatives import Negatives, draw_batch_negatives

B, L = 4, 7
# A scale of 128 would make gradients, and what rounding does to them, as much larger.
OBJECTIVE = ObjectiveConfig(queue_size=12, global_negatives=True, dsl_weight=1.0, circle_weight=1.0, circle_scale=4.0)


def whole_batch() -> Batch:
    """2 B pairs; the texts of the second half are shorter, and more of its tokens are masked."""
    batch = random_batch(2 * B, seed=3, length=L)
    batch.inputs["text"].mask[B:, 5:] = 0
    texts = batch.inputs["text"]
    extra = torch.tensor([(B + b) * L + 2 for b in range(B - 1)])
    texts.masked.ids.flatten()[extra] = 4
    texts.masked = MaskedText(
        texts.masked.ids,
        torch.cat([texts.masked.positions, extra]),
        torch.cat([texts.masked.labels, texts.ids.flatten()[extra]]),
    )
    return batch


def half(batch: Batch, rank: int) -> Batch:
    """What the loader of `rank` would give: B pairs, padded to their own longest text."""
    rows, length = slice(rank * B, (rank + 1) * B), (L, 5)[rank]
    images, texts, masked = batch.inputs["image"], batch.inputs["text"], batch.inputs["text"].masked
    own = (masked.positions // L >= rows.start) & (masked.positions // L < rows.stop)
    positions = masked.positions[own] - rank * B * L
    positions = positions // L * length + positions % L
    inputs = {
        "image": Images(images.view[rows], images.other_view[rows]),
        "text": Texts(
            texts.ids[rows, :length],
            texts.mask[rows, :length],
            MaskedText(masked.ids[rows, :length], positions, masked.labels[own]),
        ),
    }
    return Batch(batch.keys[rows], inputs)


def negatives_of(rows: slice) -> Negatives:
    """The same draw for both: the image of the next pair but two, the text of the next but four, of 2 B."""
    own = torch.arange(2 * B)
    valid = torch.ones(2 * B, dtype=torch.bool)
    return Negatives((own + 3)[rows] % (2 * B), (own + 5)[rows] % (2 * B), valid[rows], valid[rows])


def learn(batch: Batch, rows: slice, parallel: bool) -> dict[str, Tensor]:
    student, teacher = tiny_models(OBJECTIVE)
    module = DistributedDataParallel(student, broadcast_buffers=False) if parallel else student
    targets = teacher(batch, {"temperature": student.temperature.detach()}, 0.4)
    losses = module(batch, targets, negatives_of(rows))
    losses.total.backward()
    gradients = {f"gradient/{n}": p.grad for n, p in student.named_parameters() if p.grad is not None}
    seen = {name: value.detach() for name, value in (losses.each | losses.metrics).items()}
    candidates = {
        "image_candidates": torch.cat(targets.candidates["image"]),
        "text_candidates": torch.cat(targets.candidates["text"]),
    }
    logits = torch.zeros(B, len(targets.candidates["image"][0]))
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
    leave_processes(0)
