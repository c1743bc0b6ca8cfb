"""Classes of all images of a set, whatever finds them: a trained head, or the texts of the classes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from tqdm import tqdm

from tcl.data.sets.labelled_set import LabelledImages
from tcl.data.sets.streamed_set import StreamedSet
from tcl.data.shards.bad_sample import counted
from tcl.errors import InputError
from tcl.search.class_prompts import best_classes

BEST = 5
"""Classes that are kept of each image, where there are so many."""


@dataclass
class Classified:
    """N images, in the order of their shards; k = min(BEST, classes)."""

    keys: list[str]
    """'<shard name>/<sample key>'."""
    labels: Tensor
    """[N] int64, places in the list of classes."""
    best: Tensor
    """[N, k] int64, the most probable classes, best first; of equal ones the first of the list."""
    probabilities: Tensor | None
    """[N, k] fp32, those of `best`; None: what found them has none."""
    bad: Counter[str]
    """Samples that could not be used, by cause."""


@torch.no_grad()
def classify_images(
    accelerator: Accelerator,
    networks: nn.Module,
    images: StreamedSet[LabelledImages],
    logits: Callable[[Tensor], Tensor],
    batch_size: int,
) -> Classified:
    """Called on every process, which share the images; all get the result.

    logits: pixels [B, 3, H, W] -> [B, classes], by `networks`, which are in eval mode meanwhile. batch_size >= 1.
    InputError on all processes: no usable image.
    """
    was_training = networks.training
    networks.eval()
    rank, processes = accelerator.process_index, accelerator.num_processes
    own, bad = [], Counter[str]()
    bar = tqdm(unit="image", desc="classifying", leave=False, disable=None if rank == 0 else True)
    try:
        with bar:
            for batch in images.batches(batch_size, rank, processes):
                bad += batch.bad
                if batch.examples is None:
                    continue
                with accelerator.autocast():
                    found = logits(batch.examples.pixels.to(accelerator.device)).float()
                best, probabilities = best_classes(found, BEST)
                rows = best.tolist(), probabilities.tolist()
                own += zip(batch.places, batch.keys, batch.examples.labels, *rows, strict=True)
                bar.update(len(batch.keys))
    finally:
        networks.train(was_training)
    bad = sum(gather_object([bad]), Counter())
    rows = sorted(gather_object(own))  # by place, of which no two are the same
    if not rows:
        causes = counted(bad) if bad else "the shards are empty"
        raise InputError(f"data.val: {images.config.val!r} holds no usable labelled image: {causes}")
    _, keys, labels, best, probabilities = zip(*rows, strict=True)
    return Classified(list(keys), torch.tensor(labels), torch.tensor(best), torch.tensor(probabilities), bad)
