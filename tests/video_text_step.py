"""Run by tests/test_video_text.py: forward and backward of TCL of video and text on a share of a batch.

torchrun --nproc_per_node 2 tests/video_text_step.py OUT_DIR TEMPORAL
"""

import sys
from pathlib import Path

import torch
from tiny_video_text import video_text_batch, video_text_model, video_text_models
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from tcl.commands.ranks import leave_processes
from tcl.config.video_text_objective import VideoTextObjectiveConfig
from tcl.data.audio.sounds import Sounds
from tcl.data.batch import Batch
from tcl.data.images.image_views import Images
from tcl.data.texts.masking import MaskedText
from tcl.data.texts.text_tokens import Texts
from tcl.objectives.hard_negatives import Negatives

B, L = 4, 7
OBJECTIVE = VideoTextObjectiveConfig(queue_size=12, global_negatives=True, va_weight=2.0)


def half(batch: Batch, rank: int) -> Batch:
    """B of its samples; a token of each text is masked."""
    rows, inputs = slice(rank * B, (rank + 1) * B), batch.inputs
    images, texts, sounds = inputs["image"], inputs["text"], inputs["audio"]
    masked = MaskedText(texts.masked.ids[rows], texts.masked.positions[rows] - rank * B * L, texts.masked.labels[rows])
    own = {
        "image": Images(images.view[rows], images.other_view[rows]),
        "text": Texts(texts.ids[rows], texts.mask[rows], masked),
        "audio": Sounds(sounds.log_mel[rows], sounds.heard[rows]),
    }
    return Batch(batch.keys[rows], own, present={"audio": batch.present["audio"][rows]})


def negatives_of(rows: slice) -> Negatives:
    """The same draw for both, of 2 B."""
    own = torch.arange(2 * B)
    valid = torch.ones(2 * B, dtype=torch.bool)
    return Negatives((own + 3)[rows] % (2 * B), (own + 5)[rows] % (2 * B), valid[rows], valid[rows])


def learn(batch: Batch, rows: slice, temporal: str, parallel: bool) -> dict[str, Tensor]:
    student, teacher = video_text_models(OBJECTIVE, video_text_model(temporal=temporal))
    module = DistributedDataParallel(student, broadcast_buffers=False) if parallel else student
    targets = teacher(batch, {"temperature": student.temperature.detach()}, 0.4)
    losses = module(batch, targets, negatives_of(rows))
    losses.total.backward()
    gradients = {f"gradient/{n}": p.grad for n, p in student.named_parameters() if p.grad is not None}
    seen = {f"seen/{name}": tensor for name, tensor in student.named_buffers() if name.startswith("sound.")}
    return {name: loss.detach() for name, loss in losses.each.items()} | gradients | seen


if __name__ == "__main__":
    out, temporal = Path(sys.argv[1]), sys.argv[2]
    batch = video_text_batch(2 * B, seed=3, length=L)
    alone = learn(batch, slice(None), temporal, parallel=False)  # no process group yet
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    if rank == 0:
        torch.save(alone, out / "alone.pt")
    rows = slice(rank * B, (rank + 1) * B)
    torch.save(learn(half(batch, rank), rows, temporal, parallel=True), out / f"{rank}.pt")
    leave_processes(0)
