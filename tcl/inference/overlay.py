"""A heat map over an image, to look at."""

import numpy as np
from matplotlib import colormaps
from PIL import Image

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
