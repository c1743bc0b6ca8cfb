"""From a map of patches to a box and a point of the image (ALBEF section 6.4, and its published code)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from tcl.data.boxes import Box

EXPONENT = 0.5
"""Of the area by which a sum is divided. At 1 it were the mean, of which the smallest box has most."""


@dataclass(frozen=True)
class Located:
    """Where a map says that something is."""

    box: Box
    proposal: int | None
    """Index of the box among the proposals; None: there were none, and it was made from the map."""
    score: float
    """Of the box."""
    point: tuple[float, float] | None
    """x, y: the middle of the patch where the map is highest; None: the map is nowhere above 0."""
    blank: bool
    """No box had a score above 0: the box is the largest proposal, or the whole image."""


def locate(heat: Tensor, height: int, width: int, proposals: Sequence[Box] = ()) -> Located:
    """heat [rows, columns] of patches, of an image of height x width pixels; the box is one of the proposals, if any.

    The highest score wins, of equal ones the first.
    """
    heat = heat.float()
    point = _highest(heat, height, width) if heat.max() > 0 else None
    if not proposals:
        box, score = box_of_map(heat, height, width)
        blank = score <= 0
        return Located((0.0, 0.0, float(width), float(height)) if blank else box, None, score, point, blank)
    scores = box_scores(enlarge(heat, height, width), proposals)
    best = int(scores.argmax())
    blank = float(scores[best]) <= 0
    if blank:
        areas = [w * h for _, _, w, h in proposals]
        best = areas.index(max(areas))
    return Located(proposals[best], best, float(scores[best]), point, blank)


def enlarge(heat: Tensor, height: int, width: int) -> Tensor:
    """[rows, columns] -> [height, width], bicubic (a = -0.75), edges on edges."""
    return F.interpolate(heat[None, None], size=(height, width), mode="bicubic", align_corners=False)[0, 0]


def box_scores(enlarged: Tensor, boxes: Sequence[Box], exponent: float = EXPONENT) -> Tensor:
    """[P]: sum of the map [height, width] over the whole pixels of each box, over its area to the power `exponent`.

    A box counts with its whole area where it reaches over the border, as published.
    """
    sums = [
        enlarged[max(int(y), 0) : max(int(y + h), 0), max(int(x), 0) : max(int(x + w), 0)].sum() for x, y, w, h in boxes
    ]
    areas = torch.tensor([w * h for _, _, w, h in boxes], dtype=enlarged.dtype, device=enlarged.device)
    return torch.stack(sums) / areas**exponent


def box_of_map(heat: Tensor, height: int, width: int, exponent: float = EXPONENT) -> tuple[Box, float]:
    """Of all rectangles of whole patches the one with the best score, as `box_scores` has it, and that score."""
    rows, columns = heat.shape
    total = F.pad(heat.double().cumsum(0).cumsum(1), (1, 0, 1, 0))
    top, bottom = torch.triu_indices(rows, rows)
    left, right = torch.triu_indices(columns, columns)
    below, beyond = bottom + 1, right + 1
    strips = total[below] - total[top]
    sums = strips[:, beyond] - strips[:, left]
    patch = height * width / (rows * columns)
    areas = ((below - top)[:, None] * (beyond - left)[None, :]) * patch
    scores = sums * patch / areas**exponent
    best = int(scores.argmax())
    i, j = divmod(best, scores.shape[1])
    down, right_of = height / rows, width / columns
    x, y = float(left[j]) * right_of, float(top[i]) * down
    box = x, y, float(beyond[j] - left[j]) * right_of, float(below[i] - top[i]) * down
    return box, float(scores[i, j])


def _highest(heat: Tensor, height: int, width: int) -> tuple[float, float]:
    """x and y of the middle of the highest patch, of equal ones the first in reading order.

    Of the map as it is: an enlarged one overshoots beside its peaks, at the border by half a patch.
    """
    rows, columns = heat.shape
    row, column = divmod(int(heat.argmax()), columns)
    return (column + 0.5) * width / columns, (row + 0.5) * height / rows
