"""From a decoded image to the pixels of one view: augmented for training, resized for evaluation.

What is random about a view is drawn first, as a list of steps, from a generator that the caller hands in; taking the
steps is `tcl.data.images.image_operations`, here, or `tcl.data.images.batched_operations`, on the training device.
"""

import math
import random
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tcl.config.data import AugmentConfig
from tcl.data.images import image_operations as op
from tcl.data.images.image_operations import Box
from tcl.data.images.normalise import normalise
from tcl.data.images.rand_augment import draw_rand_augment
from tcl.data.images.view_step import Step
from tcl.data.seeding import seed_of

CROP_RATIO = (3 / 4, 4 / 3)
BLUR_SIGMA = (0.1, 2.0)


class View(NamedTuple):
    """An augmented view of an image, or as much of it as a worker makes."""

    pixels: Tensor
    """[3, image_size, image_size] uint8."""
    steps: list[Step]
    """Those left to take (`tcl.data.images.batched_operations`): none, or with augment.on_device all but the crop."""


class Augment:
    """Makes one randomly augmented view of an image, with config.views one of so many of it.

    `min_side` is the smallest side of an image that a crop of it can need.
    Calling it takes an image of any size, [H, W, 3] uint8 RGB, and the generator to draw from -> View.
    """

    def __init__(self, config: AugmentConfig, image_size: int):
        self.config, self.image_size = config, image_size
        smallest = 1.0 if config.whole_image else config.crop_scale[0] * CROP_RATIO[0]
        self.min_side = math.ceil(image_size / math.sqrt(smallest))

    def __call__(self, pixels: np.ndarray, rng: random.Random) -> View:
        if self.config.views is not None:
            return self.numbered(pixels, rng.randrange(self.config.views))
        return self._view(pixels, rng)

    def numbered(self, pixels: np.ndarray, number: int) -> View:
        """View 0 .. config.views - 1 of an image, [H, W, 3] uint8: the same in all epochs and runs."""
        return self._view(pixels, random.Random(seed_of("view", zlib.crc32(pixels.tobytes()), number)))

    def _view(self, pixels: np.ndarray, rng: random.Random) -> View:
        height, width, _ = pixels.shape
        steps = draw_view(self.config, self.image_size, width, height, rng)
        here = 1 if self.config.on_device else len(steps)
        for operation, values in steps[:here]:
            pixels = operation(pixels, *values)
        return View(torch.from_numpy(pixels).permute(2, 0, 1), steps[here:])


def draw_view(config: AugmentConfig, image_size: int, width: int, height: int, rng: random.Random) -> list[Step]:
    """The steps that make one view, [image_size, image_size, 3], of an image of width x height pixels."""
    whole = config.whole_image
    box = Box(0, 0, width, height) if whole else draw_box(width, height, config.crop_scale, rng)
    steps = [Step(op.resized_crop, (box, image_size))]
    if rng.random() < config.color_jitter_prob:
        steps += draw_color_jitter(config.color_jitter, rng)
    if rng.random() < config.grayscale_prob:
        steps.append(Step(op.grayscale))
    if rng.random() < config.blur_prob:
        steps.append(Step(op.blur, (rng.uniform(*BLUR_SIGMA),)))
    if rng.random() < config.flip_prob:
        steps.append(Step(op.flip))
    return steps + draw_rand_augment(config.randaugment_ops, config.randaugment_magnitude, rng)


def draw_box(width: int, height: int, scale: tuple[float, float], rng: random.Random) -> Box:
    """A random part of an image, `scale` (low, high) of its area, of ratio 3:4 to 4:3."""
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return Box(rng.randint(0, width - w), rng.randint(0, height - h), w, h)
    # A very wide or very high image: the largest centred part of a ratio in range.
    w = max(1, min(width, round(height * CROP_RATIO[1])))
    h = max(1, min(height, round(width / CROP_RATIO[0])))
    return Box((width - w) // 2, (height - h) // 2, w, h)


def draw_color_jitter(strengths: tuple[float, float, float, float], rng: random.Random) -> list[Step]:
    """Brightness, contrast, saturation scaled by 1 +- strength and hue turned by +- strength (of a full turn), in a
    random order; those of strength 0 are left out."""
    *factors, turn = strengths
    steps = [
        Step(operation, (rng.uniform(max(0, 1 - strength), 1 + strength),))
        for operation, strength in zip((op.brightness, op.contrast, op.saturation), factors, strict=True)
        if strength > 0
    ]
    if turn > 0:
        steps.append(Step(op.hue, (rng.uniform(-turn, turn),)))
    rng.shuffle(steps)
    return steps


def eval_transform(image_size: int, mean: Sequence[float], std: Sequence[float]) -> Callable[[np.ndarray], Tensor]:
    """Image [H, W, 3] uint8 -> [3, image_size, image_size] float: the whole image squeezed into the square, as
    published, and normalised by mean and std. It can be pickled, for workers that are spawned."""
    return partial(_squeeze, image_size=image_size, mean=tuple(mean), std=tuple(std))


def _squeeze(pixels: np.ndarray, *, image_size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    whole = Box(0, 0, pixels.shape[1], pixels.shape[0])
    squeezed = torch.from_numpy(op.resized_crop(pixels, whole, image_size)).permute(2, 0, 1)
    return normalise(squeezed, torch.tensor(mean), torch.tensor(std))
