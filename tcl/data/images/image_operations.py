"""What can be done to the pixels of a view: [H, W, 3] uint8 RGB arrays in, new ones out.

Definitions are Pillow's (factors blend, levels are cut to 0 .. 255 after every operation), computed by OpenCV, which is
several times as fast; `benchmarks/loader.py` has the figures and the tests the differences, a level or two.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.nn.functional import interpolate

GREY = (128, 128, 128)
"""What shows where an image was moved away."""

LUMA = (0.299, 0.587, 0.114)
LEVELS = np.arange(256, dtype=np.float32)


class Box(NamedTuple):
    """A part of an image, in pixels."""

    left: int
    top: int
    width: int
    height: int


def resized_crop(pixels: np.ndarray, box: Box, size: int) -> np.ndarray:
    """The part `box` of an image, resized to size x size: bicubic over all the pixels it covers (antialiased)."""
    part = np.ascontiguousarray(pixels[box.top : box.top + box.height, box.left : box.left + box.width])
    # Torch has Pillow's filter with vector instructions, a third of its time, but for channels-last batches alone.
    batch = torch.from_numpy(part)[None].permute(0, 3, 1, 2)
    resized = interpolate(batch, (size, size), mode="bicubic", antialias=True)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def brightness(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Every level times `factor` (>= 0)."""
    return cv2.LUT(pixels, _cut(factor * LEVELS))


def contrast(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Every level's distance from the mean of the grey image times `factor` (>= 0)."""
    mean = round(cv2.mean(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))[0])
    return cv2.LUT(pixels, _cut(mean + factor * (LEVELS - mean)))


def saturation(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Every pixel's distance from its luma times `factor` (>= 0)."""
    return cv2.transform(pixels, factor * np.eye(3) + (1 - factor) * np.array(LUMA))


def hue(pixels: np.ndarray, turn: float) -> np.ndarray:
    """Colours turned by the share `turn` of a full turn, -0.5 to 0.5."""
    hsv = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV_FULL)
    # OpenCV has 256 hues in a full turn on the way there, but 255 on the way back.
    turned = np.rint((LEVELS / 256 + turn) % 1 * 255).astype(np.uint8)
    cv2.insertChannel(cv2.LUT(cv2.extractChannel(hsv, 0), turned), hsv, 0)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def grayscale(pixels: np.ndarray) -> np.ndarray:
    """Its luma in all three channels."""
    return cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def blur(pixels: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian, sigma (> 0) in pixels; the edges go on beyond the image."""
    return cv2.GaussianBlur(pixels, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def flip(pixels: np.ndarray) -> np.ndarray:
    """Left and right exchanged."""
    return cv2.flip(pixels, 1)


def identity(pixels: np.ndarray) -> np.ndarray:
    """As it is."""
    return pixels


def autocontrast(pixels: np.ndarray) -> np.ndarray:
    """The levels of each channel spread over 0 .. 255."""
    tables = []
    for channel in cv2.split(pixels):
        low, high, _, _ = cv2.minMaxLoc(channel)
        tables.append(_cut((LEVELS - low) * (255 / (high - low))) if high > low else LEVELS.astype(np.uint8))
    return _through_tables(pixels, tables)


def equalize(pixels: np.ndarray) -> np.ndarray:
    """The levels of each channel spread so that all become about equally frequent."""
    tables = []
    for channel in range(3):
        counts = cv2.calcHist([pixels], [channel], None, [256], [0, 256]).reshape(256).astype(np.int64)
        used = counts[counts > 0]
        step = (pixels.shape[0] * pixels.shape[1] - used[-1]) // 255
        below = np.cumsum(counts) - counts
        tables.append(((step // 2 + below) // step).clip(0, 255) if step > 0 else LEVELS)
    return _through_tables(pixels, tables)


def sharpness(pixels: np.ndarray, factor: float) -> np.ndarray:
    """Every pixel's distance from the weighted mean of its neighbourhood (1, of 13; itself 5) times `factor`.

    Pixels on the edges stay as they are.
    """
    # The neighbourhood's mean is (9 box + 4 pixel) / 13, and a box filter is fast.
    share = (1 - factor) * 9 / 13
    sharp = cv2.addWeighted(pixels, 1 - share, cv2.blur(pixels, (3, 3)), share, 0)
    sharp[[0, -1]] = pixels[[0, -1]]
    sharp[:, [0, -1]] = pixels[:, [0, -1]]
    return sharp


def shear_x(pixels: np.ndarray, slope: float) -> np.ndarray:
    """Rows moved right by `slope` times their distance from the top."""
    return _warp(pixels, ((1, -slope, 0), (0, 1, 0)))


def shear_y(pixels: np.ndarray, slope: float) -> np.ndarray:
    """Columns moved down by `slope` times their distance from the left."""
    return _warp(pixels, ((1, 0, 0), (-slope, 1, 0)))


def translate_x(pixels: np.ndarray, shift: int) -> np.ndarray:
    """Moved right by `shift` pixels."""
    return _warp(pixels, ((1, 0, -shift), (0, 1, 0)), cv2.INTER_NEAREST)


def translate_y(pixels: np.ndarray, shift: int) -> np.ndarray:
    """Moved down by `shift` pixels."""
    return _warp(pixels, ((1, 0, 0), (0, 1, -shift)), cv2.INTER_NEAREST)


def rotate(pixels: np.ndarray, degrees: float) -> np.ndarray:
    """Turned counter-clockwise about the centre."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    y, x = pixels.shape[0] / 2, pixels.shape[1] / 2
    return _warp(pixels, ((cos, -sin, x - cos * x + sin * y), (sin, cos, y - sin * x - cos * y)))


def _warp(
    pixels: np.ndarray,
    output_to_input: tuple[tuple[float, float, float], ...],
    interpolation: int = cv2.INTER_LINEAR,
) -> np.ndarray:
    """Coordinates are those of Pillow: (0, 0) is the corner of the first pixel, not its centre."""
    matrix = np.array(output_to_input, dtype=float)
    matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2 - 0.5
    return cv2.warpAffine(
        pixels,
        matrix,
        (pixels.shape[1], pixels.shape[0]),
        flags=interpolation | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=GREY,
    )


def _cut(levels: np.ndarray) -> np.ndarray:
    return levels.clip(0, 255).astype(np.uint8)


def _through_tables(pixels: np.ndarray, tables: list[np.ndarray]) -> np.ndarray:
    """Each channel's levels replaced as its table of 256 says."""
    return cv2.LUT(pixels, np.stack(tables, axis=-1)[None].astype(np.uint8))
