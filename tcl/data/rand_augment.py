"""RandAugment with the operations, strengths and probability of the paper's code: none that destroys colour."""

import random

from PIL import Image, ImageEnhance, ImageOps

APPLY_PROBABILITY = 0.5
"""Of each operation drawn, as in the published code."""
LARGEST_SHEAR = 0.3
LARGEST_SHIFT = 10
"""In pixels."""
LARGEST_ROTATION = 30
"""In degrees."""
FILL = (128, 128, 128)


def rand_augment(image: Image.Image, rng: random.Random, *, operations: int, magnitude: float) -> Image.Image:
    """`operations` (>= 0) draws, each applied with probability one half at strength `magnitude` (0 to 10)."""
    strength = magnitude / 10
    for _ in range(operations):
        operation = rng.choice(OPERATIONS)
        sign = rng.choice((-1, 1))
        if rng.random() < APPLY_PROBABILITY:
            image = operation(image, strength, sign)
    return image


def identity(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return image


def autocontrast(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return ImageOps.autocontrast(image)


def equalize(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return ImageOps.equalize(image)


def brightness(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(0.1 + 1.8 * strength)


def sharpness(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(0.1 + 1.8 * strength)


def shear_x(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _affine(image, (1, -sign * LARGEST_SHEAR * strength, 0, 0, 1, 0))


def shear_y(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _affine(image, (1, 0, 0, -sign * LARGEST_SHEAR * strength, 1, 0))


def translate_x(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _shift(image, (sign * round(LARGEST_SHIFT * strength), 0))


def translate_y(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return _shift(image, (0, sign * round(LARGEST_SHIFT * strength)))


def rotate(image: Image.Image, strength: float, sign: int) -> Image.Image:
    return image.rotate(sign * LARGEST_ROTATION * strength, Image.Resampling.BILINEAR, fillcolor=FILL)


def _affine(image: Image.Image, output_to_input: tuple[float, ...]) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, output_to_input, Image.Resampling.BILINEAR, fillcolor=FILL
    )


def _shift(image: Image.Image, pixels: tuple[int, int]) -> Image.Image:
    shifted = Image.new("RGB", image.size, FILL)
    shifted.paste(image, pixels)
    return shifted


OPERATIONS = (
    identity,
    autocontrast,
    equalize,
    brightness,
    sharpness,
    shear_x,
    shear_y,
    translate_x,
    translate_y,
    rotate,
)
