"""An image under a heat map, and boxes drawn on it."""

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw

from tcl.data.boxes import Box

COLOURS = colormaps["inferno"]
STRONGEST = 0.7
"""Share of the colour where the map is highest; where it is 0 the image shows as it is."""


def overlay(image: Image.Image, heat: np.ndarray) -> Image.Image:
    """An RGB image under heat [rows, columns] (>= 0), which covers it from edge to edge -> RGB of the image's size.

    Colours go from 0 to the map's own maximum; a map of zeros leaves the image as it is.
    """
    highest = float(heat.max())
    if highest == 0:
        return image.copy()
    smooth = Image.fromarray((heat / highest).astype(np.float32)).resize(image.size, Image.Resampling.BICUBIC)
    share = np.asarray(smooth).clip(0, 1)[:, :, None]
    coloured = COLOURS(share[:, :, 0])[:, :, :3] * 255
    mixed = np.asarray(image) * (1 - STRONGEST * share) + coloured * STRONGEST * share
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def draw_box(image: Image.Image, box: Box, size: tuple[int, int], colour: str, line: int = 2) -> None:
    """Outline a box, given in pixels of an image of `size` (height, width), on `image`, which shows that image at any
    size; what reaches over the border is drawn on it. line: its width in pixels, which lies within the box."""
    x, y, w, h = box
    across, down = image.width / size[1], image.height / size[0]
    left, right = (min(max(round(value * across), 0), image.width) for value in (x, x + w))
    top, bottom = (min(max(round(value * down), 0), image.height) for value in (y, y + h))
    corners = left, top, max(right - 1, left), max(bottom - 1, top)
    ImageDraw.Draw(image).rectangle(corners, outline=colour, width=line)


def draw_point(image: Image.Image, point: tuple[float, float], size: tuple[int, int], colour: str) -> None:
    """Mark a point, given as in `draw_box`, by a small cross on a dark ground."""
    x, y = point[0] * image.width / size[1], point[1] * image.height / size[0]
    draw = ImageDraw.Draw(image)
    for reach, width, shade in ((6, 5, "black"), (5, 2, colour)):
        draw.line((x - reach, y, x + reach, y), fill=shade, width=width)
        draw.line((x, y - reach, x, y + reach), fill=shade, width=width)
