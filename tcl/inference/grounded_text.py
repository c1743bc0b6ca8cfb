"""What `TCL.ground` finds: the box of what a text means, a point, and the map behind them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tcl.data.boxes import Box, as_box, box_problem
from tcl.errors import InputError
from tcl.evaluation.overlay import draw_box, draw_point, overlay

COLOUR = "#35d07f"
MAX_BOXES = 100_000


@dataclass(frozen=True)
class GroundedText:
    """Where in an image a text is."""

    image: Image.Image
    """RGB, upright."""
    box: Box
    """x, y, width, height in pixels of `image`."""
    index: int | None
    """Place of the box among those that were given; None: there were none, and it was made from the map."""
    score: float
    """Of the box: the sum of the map over the square root of its area."""
    point: tuple[float, float] | None
    """x, y where the map is highest; None: it is nowhere above 0."""
    blank: bool
    """No box has a score above 0: `box` is the largest of those given, or the whole image."""
    values: np.ndarray
    """[rows, columns] float32, >= 0: the map of the image's patches."""

    def save(self, path: str | Path) -> None:
        """Write the image under its map, with the box and the point, as a PNG.

        InputError: a path that does not end in .png, or where nothing can be written.
        """
        if Path(path).suffix.lower() != ".png":
            raise InputError(f"path: {str(path)!r}; give a name that ends in .png")
        drawn, size = overlay(self.image, self.values), (self.image.height, self.image.width)
        draw_box(drawn, self.box, size, COLOUR)
        if self.point is not None:
            draw_point(drawn, self.point, size, COLOUR)
        try:
            drawn.save(path, "PNG")
        except OSError as error:
            raise InputError(f"path: {str(path)!r} cannot be written ({error.strerror})") from error


def list_boxes(boxes: Iterable, height: int, width: int) -> list[Box]:
    """Boxes to choose from: an array [P, 4], or a list of four numbers each. InputError: none at all, or one of no
    area, outside of the image of height x width pixels, or that is no box."""
    if not isinstance(boxes, Iterable) or isinstance(boxes, str | bytes | dict):
        raise InputError(f"boxes: a {type(boxes).__name__} is none; give a list of [x, y, width, height]")
    listed = [box.tolist() if hasattr(box, "tolist") else box for box in boxes]
    if not listed:
        raise InputError("boxes: there are none; give at least one, or None to have one made from the map")
    if len(listed) > MAX_BOXES:
        raise InputError(f"boxes: {len(listed):,}; give at most {MAX_BOXES:,}")
    for i, box in enumerate(listed):
        problem = box_problem(box, height, width)
        if problem:
            accepted = f"x, y, width, height in pixels of the image, which has {width} x {height}"
            raise InputError(f"boxes[{i}]: {_short(box)}: {problem}; give {accepted}")
    return [as_box(box) for box in listed]


def _short(box: object) -> str:
    said = repr(box)
    return said if len(said) <= 100 else f"{said[:100]}..."
