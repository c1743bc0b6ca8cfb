"""Where a model finds what the expressions of a set mean, in all their images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from tqdm import tqdm

from tcl.data.sets.grounding_set import Expression, GroundingSet
from tcl.evaluation.box_choice import Located, locate
from tcl.evaluation.box_overlap import HIT, holds, iou
from tcl.evaluation.decoded_images import decoded_batches
from tcl.evaluation.text_maps import Watched, text_maps


@dataclass(frozen=True)
class Grounded:
    """An expression, and what was found."""

    expression: Expression
    located: Located
    heat: np.ndarray
    """[rows, columns] float32, >= 0: the map of patches."""

    @property
    def iou(self) -> float:
        """Of the box with the right one, 0 to 1."""
        return iou(self.expression.box, self.located.box)

    @property
    def right(self) -> bool:
        """Is it the right box?"""
        return self.iou >= HIT

    @property
    def pointed(self) -> bool:
        """Does the point lie in the right box?"""
        return self.located.point is not None and holds(self.expression.box, *self.located.point)


def ground_expressions(
    accelerator: Accelerator,
    student: nn.Module,
    data: GroundingSet,
    where: Watched,
    tokenize: Callable[[Sequence[str]], tuple[Tensor, Tensor]],
    transform: Callable[[np.ndarray], Tensor],
    *,
    batch_size: int,
    max_pixels: int,
    workers: int,
) -> list[Grounded]:
    """Of each expression, in their order. Called on every process, which share the work; all get the result.

    batch_size (>= 1) expressions are looked for at a time, those about one image together: it is encoded once.
    `workers` (>= 0) processes decode images.
    """
    was_training = student.training
    student.eval()
    device, rank, processes = accelerator.device, accelerator.process_index, accelerator.num_processes
    asked = data.expressions
    by_image = sorted(range(len(asked)), key=lambda e: asked[e].image)
    share = by_image[len(by_image) * rank // processes : len(by_image) * (rank + 1) // processes]
    passes = [share[start : start + batch_size] for start in range(0, len(share), batch_size)]
    images = [sorted({asked[e].image for e in some}) for some in passes]
    pixels = decoded_batches(data.images, images, transform, max_pixels=max_pixels, workers=workers)
    bar = tqdm(passes, unit="pass", desc="grounding", leave=False, disable=None if rank == 0 else True)
    own: list[tuple[int, Located, np.ndarray]] = []
    try:
        for some, shown, batch in zip(bar, images, pixels, strict=True):
            ids, mask = (tensor.to(device) for tensor in tokenize([asked[e].text for e in some]))
            place = {image: i for i, image in enumerate(shown)}
            image_of = torch.tensor([place[asked[e].image] for e in some], device=device)
            maps = text_maps(student, where, batch.to(device), ids, mask, image_of, accelerator.autocast).cpu()
            own += [
                (e, locate(heat, *asked[e].size, asked[e].proposals), heat.numpy().astype(np.float32))
                for e, heat in zip(some, maps, strict=True)
            ]
    finally:
        student.train(was_training)
    found = {e: (located, heat) for e, located, heat in gather_object(own)}
    return [Grounded(expression, *found[e]) for e, expression in enumerate(asked)]
