"""How well a box fits another one, and whether a point lies in it, counted in pixels as in the RefCOCO tasks."""

from tcl.data.boxes import Box

HIT = 0.5
"""The least IoU of a box that is right."""


def iou(one: Box, other: Box) -> float:
    """Intersection over union, 0 to 1, as published: a box of width w reaches from x to x + w - 1, and boxes that share
    a row or a column of pixels alone do not overlap."""
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right = min(one[0] + one[2] - 1, other[0] + other[2] - 1)
    bottom = min(one[1] + one[3] - 1, other[1] + other[3] - 1)
    common = (right - left + 1) * (bottom - top + 1) if right > left and bottom > top else 0.0
    return common / (one[2] * one[3] + other[2] * other[3] - common)


def holds(box: Box, x: float, y: float) -> bool:
    """Whether the point lies in the box, whose right and lower edges are not its own."""
    return box[0] <= x < box[0] + box[2] and box[1] <= y < box[1] + box[3]
