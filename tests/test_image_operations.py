"""Each operation against hand-worked pixels, and against Pillow and torchvision, which define it."""

import random

import numpy as np
import pytest
from data_files import encode, noise
from PIL import Image, ImageFilter

from benchmarks.textbook import loader as textbook
from tcl.config.data import AugmentConfig
from tcl.data.images import image_operations as op
from tcl.data.images.augment import draw_view
from tcl.data.images.decode_image import decode_image
from tcl.data.images.image_operations import Box


def photograph(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Soft shapes of all colours with some grain: what photographs are to these operations."""
    colours = noise(seed, (9, 7)).resize(size, Image.Resampling.BICUBIC)
    return Image.blend(colours, noise(seed + 1, size).filter(ImageFilter.GaussianBlur(1)), 0.3)


def flat(*colour: int) -> np.ndarray:
    return np.full((4, 4, 3), colour, dtype=np.uint8)


def difference(found: np.ndarray, image: Image.Image) -> float:
    """Mean of the absolute differences, in levels."""
    return np.abs(found.astype(float) - np.asarray(image)).mean()


@pytest.mark.parametrize(
    ("name", "values", "levels"),
    [
        ("resized_crop", (Box(31, 17, 203, 180), 64), 0.1),
        ("resized_crop", (Box(0, 0, 40, 30), 64), 0.1),
        ("brightness", (0.6,), 0),
        ("brightness", (1.36,), 0),
        ("contrast", (0.6,), 0.1),
        ("contrast", (1.4,), 0.1),
        ("saturation", (0.6,), 0.8),
        ("saturation", (1.4,), 0.8),
        ("hue", (0.1,), 1),
        ("hue", (-0.07,), 1),
        ("grayscale", (), 0.1),
        ("blur", (0.3,), 0.8),
        ("blur", (2.0,), 0.8),
        ("flip", (), 0),
        ("identity", (), 0),
        ("autocontrast", (), 0.1),
        ("equalize", (), 0),
        ("sharpness", (1.36,), 0.8),
        ("sharpness", (0.5,), 0.8),
        ("shear_x", (0.21,), 0.8),
        ("shear_y", (-0.21,), 0.8),
        ("translate_x", (7,), 0),
        ("translate_y", (-7,), 0),
        ("rotate", (21.0,), 0.8),
    ],
)
def test_pixels_are_those_of_stock_functions(name, values, levels):
    """To `levels`, in the mean; what is allowed above 0.1 is that of other roundings (Pillow cuts digits off)."""
    for seed in range(3):
        image = photograph(seed)
        pixels = np.array(image)
        found = getattr(op, name)(pixels, *values)
        assert found.dtype == np.uint8 and found.flags.c_contiguous
        assert difference(found, textbook.OPERATIONS[name](image, *values)) <= levels
        assert np.array_equal(pixels, np.asarray(image)), "the input was changed"


def test_views_are_those_of_the_textbook_pipeline():
    """From the file on, with the drawn values of the paper's augmentation: small differences of each step, added up."""
    found = []
    for seed in range(40):
        content = encode(photograph(seed))
        expected, pixels = textbook.decode(content), decode_image(content, max_pixels=10**6)
        steps = draw_view(AugmentConfig(), 128, *expected.size, random.Random(seed))
        for operation, values in steps:
            pixels = operation(pixels, *values)
        found.append(difference(pixels, textbook.make_view(expected, steps)))
    assert np.mean(found) < 1.5
    assert np.max(found) < 8


def test_crop_by_hand():
    """Where nothing is resized, the crop is the part itself."""
    pixels = np.array(noise(0, (30, 20)))
    assert np.array_equal(op.resized_crop(pixels, Box(5, 3, 8, 8), 8), pixels[3:11, 5:13])


def test_turning_the_hue_by_thirds_swaps_the_primaries():
    assert np.abs(op.hue(flat(255, 0, 0), 1 / 3)[0, 0].astype(int) - (0, 255, 0)).max() <= 3
    assert np.abs(op.hue(flat(255, 0, 0), -1 / 3)[0, 0].astype(int) - (0, 0, 255)).max() <= 3
    assert op.hue(flat(255, 0, 0), 0.0)[0, 0].tolist() == [255, 0, 0]


def test_factors_by_hand():
    assert op.brightness(flat(100, 50, 200), 1.5)[0, 0].tolist() == [150, 75, 255]
    half = np.concatenate([flat(100, 100, 100), flat(140, 140, 140)])
    assert op.contrast(half, 0.5)[[0, -1], 0, 0].tolist() == [110, 130]
    assert op.saturation(flat(200, 100, 100), 0.0)[0, 0].tolist() == [130, 130, 130]
    assert op.saturation(flat(100, 100, 100), 1.4)[0, 0].tolist() == [100, 100, 100]


def test_grayscale_is_the_luma():
    image = noise()
    luma = np.asarray(image, dtype=float) @ [0.299, 0.587, 0.114]
    assert np.abs(op.grayscale(np.array(image)) - luma[..., None]).max() <= 1


def test_blur_is_a_gaussian():
    """A single bright pixel becomes the bell; a flat image stays, up to its edges."""
    dot = np.zeros((31, 31, 3), dtype=np.uint8)
    dot[15, 15] = 255
    distance = np.arange(31) - 15
    bell = np.exp(-(distance**2) / (2 * 1.5**2))
    bell /= bell.sum()
    assert np.abs(op.blur(dot, 1.5)[..., 0] - 255 * np.outer(bell, bell)).max() <= 1
    assert np.array_equal(op.blur(flat(9, 80, 200), 2.0), flat(9, 80, 200))


def test_autocontrast_and_equalize_leave_a_flat_image():
    assert np.array_equal(op.autocontrast(flat(9, 80, 200)), flat(9, 80, 200))
    assert np.array_equal(op.equalize(flat(9, 80, 200)), flat(9, 80, 200))


def test_movements_by_hand():
    """Where a bright dot goes, and grey where nothing is left."""
    dot = np.zeros((41, 41, 3), dtype=np.uint8)
    dot[9:12, 19:22] = 255

    def bright(pixels) -> list[float]:
        """(x, y) of the dot."""
        return np.argwhere(pixels[..., 0] > 160).mean(axis=0)[::-1].tolist()

    assert bright(op.translate_x(dot, 7)) == [27, 10]
    assert bright(op.translate_x(dot, -7)) == [13, 10]
    assert bright(op.translate_y(dot, 7)) == [20, 17]
    assert op.translate_y(dot, 7)[:8, 0].tolist() == [[128] * 3] * 7 + [[0] * 3]
    assert bright(op.shear_x(dot, 0.2)) == pytest.approx([22, 10], abs=0.6)
    assert bright(op.shear_y(dot, 0.2)) == pytest.approx([20, 14], abs=0.6)
    angle = np.radians(21)
    turned = [20 - 10 * np.sin(angle), 20 - 10 * np.cos(angle)]
    assert bright(op.rotate(dot, 21)) == pytest.approx(turned, abs=0.6)
