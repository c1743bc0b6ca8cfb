"""From a decoded image to the tensor of one view: augmented for training, resized for evaluation.

Pillow on 8-bit images throughout: on a CPU about twice as fast as the same operations on tensors. All randomness comes
from a generator that the caller hands in, so a view can be made again.
"""

import math
import random
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image, ImageEnhance, ImageFilter
from torch import Tensor

from tcl.config import AugmentConfig
from tcl.data.rand_augment import rand_augment

Operation = Callable[[Image.Image, random.Random], Image.Image]

CROP_RATIO = (3 / 4, 4 / 3)
BLUR_SIGMA = (0.1, 2.0)


class Augment:
    """Makes one randomly augmented view of an image; `min_side` is the smallest side that a crop of it can need.

    Calling it maps an RGB image of any size to [3, image_size, image_size] float, normalised by mean and std.
    Operations that a config switches off (probability or strength 0) are not there at all.
    """

    def __init__(self, config: AugmentConfig, image_size: int, mean: Sequence[float], std: Sequence[float]):
        self.operations: list[Operation] = [partial(random_crop, size=image_size, scale=config.crop_scale)]
        if config.color_jitter_prob > 0 and any(config.color_jitter):
            jitter = partial(color_jitter, strengths=config.color_jitter)
            self.operations.append(partial(_sometimes, jitter, config.color_jitter_prob))
        if config.grayscale_prob > 0:
            self.operations.append(partial(_sometimes, grayscale, config.grayscale_prob))
        if config.blur_prob > 0:
            self.operations.append(partial(_sometimes, blur, config.blur_prob))
        if config.flip_prob > 0:
            self.operations.append(partial(_sometimes, flip, config.flip_prob))
        if config.randaugment_ops > 0 and config.randaugment_magnitude > 0:
            operation = partial(rand_augment, operations=config.randaugment_ops, magnitude=config.randaugment_magnitude)
            self.operations.append(operation)
        self.min_side = math.ceil(image_size / math.sqrt(config.crop_scale[0] * CROP_RATIO[0]))
        self.mean, self.std = mean, std

    def __call__(self, image: Image.Image, rng: random.Random) -> Tensor:
        for operation in self.operations:
            image = operation(image, rng)
        return to_tensor(image, self.mean, self.std)


def eval_transform(image_size: int, mean: Sequence[float], std: Sequence[float]) -> Callable[[Image.Image], Tensor]:
    """RGB image -> [3, image_size, image_size] float: the whole image squeezed into the square, as published."""

    def transform(image: Image.Image) -> Tensor:
        return to_tensor(image.resize((image_size, image_size), Image.Resampling.BICUBIC), mean, std)

    return transform


def to_tensor(image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """RGB image -> [3, H, W] float: (pixel / 255 - mean) / std."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    pixels = pixels.to(torch.float32, memory_format=torch.contiguous_format)
    mean, std = torch.tensor(mean).view(3, 1, 1), torch.tensor(std).view(3, 1, 1)
    return pixels.sub_(255 * mean).div_(255 * std)


def _sometimes(operation: Operation, probability: float, image: Image.Image, rng: random.Random) -> Image.Image:
    return operation(image, rng) if rng.random() < probability else image


def random_crop(image: Image.Image, rng: random.Random, *, size: int, scale: tuple[float, float]) -> Image.Image:
    """A random part of the image, `scale` (low, high) of its area, of ratio 3:4 to 4:3, resized to size x size."""
    width, height = image.size
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.randint(0, width - w), rng.randint(0, height - h)
            break
    else:  # a very wide or very high image: the largest centred part of a ratio in range
        w = max(1, min(width, round(height * CROP_RATIO[1])))
        h = max(1, min(height, round(width / CROP_RATIO[0])))
        left, top = (width - w) // 2, (height - h) // 2
    return image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + w, top + h))


def color_jitter(
    image: Image.Image, rng: random.Random, *, strengths: tuple[float, float, float, float]
) -> Image.Image:
    """Brightness, contrast, saturation scaled by 1 +- strength and hue turned by +- strength (of a full turn), in a
    random order."""
    brightness, contrast, saturation, hue = strengths
    changes = [
        (ImageEnhance.Brightness, brightness),
        (ImageEnhance.Contrast, contrast),
        (ImageEnhance.Color, saturation),
        (None, hue),
    ]
    rng.shuffle(changes)
    for enhance, strength in changes:
        if strength == 0:
            continue
        if enhance is None:
            image = turn_hue(image, rng.uniform(-strength, strength))
        else:
            image = enhance(image).enhance(rng.uniform(max(0, 1 - strength), 1 + strength))
    return image


def turn_hue(image: Image.Image, turn: float) -> Image.Image:
    """`turn` is the share of a full turn, -0.5 to 0.5."""
    shift = round(turn * 255)
    hue, saturation, value = image.convert("HSV").split()
    hue = hue.point([(level + shift) % 255 for level in range(256)])
    return Image.merge("HSV", (hue, saturation, value)).convert("RGB")


def grayscale(image: Image.Image, rng: random.Random) -> Image.Image:
    return image.convert("L").convert("RGB")


def blur(image: Image.Image, rng: random.Random) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(*BLUR_SIGMA)))


def flip(image: Image.Image, rng: random.Random) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
