"""The two augmented views, and the plain transform of evaluation."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from data_files import NO_AUGMENT, noise
from PIL import Image

from tcl.config import AugmentConfig
from tcl.data import augment, rand_augment
from tcl.data.augment import Augment, eval_transform, to_tensor

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def view(config: AugmentConfig, image: Image.Image, seed: int = 0, size: int = 16) -> torch.Tensor:
    return Augment(config, size, (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))(image, random.Random(seed))


def test_to_tensor_by_hand():
    image = noise(0, (5, 3))
    found = to_tensor(image, MEAN, STD)
    assert found.shape == (3, 3, 5)
    assert found.is_contiguous()
    for c in range(3):
        for y in range(3):
            for x in range(5):
                by_hand = (image.getpixel((x, y))[c] / 255 - MEAN[c]) / STD[c]
                assert found[c, y, x].item() == pytest.approx(by_hand, abs=1e-5)


def test_eval_transform_squeezes_the_whole_image():
    image = Image.new("RGB", (40, 10), "red")
    image.paste((0, 0, 255), (20, 0, 40, 10))
    found = eval_transform(8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))(image)
    assert found.shape == (3, 8, 8)
    assert found[:, 4, 0].tolist() == pytest.approx([1, 0, 0], abs=0.02)
    assert found[:, 4, 7].tolist() == pytest.approx([0, 0, 1], abs=0.02)


def test_switched_off_operations_are_not_there():
    assert len(Augment(NO_AUGMENT, 16, MEAN, STD).operations) == 1
    assert len(Augment(AugmentConfig(), 16, MEAN, STD).operations) == 6
    assert len(Augment(replace(AugmentConfig(), color_jitter=(0, 0, 0, 0)), 16, MEAN, STD).operations) == 5
    assert len(Augment(replace(AugmentConfig(), randaugment_magnitude=0), 16, MEAN, STD).operations) == 5


def test_with_everything_off_a_square_image_stays_as_it_is():
    image = noise()
    assert np.array_equal(view(NO_AUGMENT, image).round().permute(1, 2, 0), np.array(image))


def test_a_view_is_a_function_of_the_generator():
    image = noise(0, (50, 40))
    first, again, other = (view(AugmentConfig(), image, seed) for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)


def test_two_views_from_one_generator_differ():
    make, rng = Augment(AugmentConfig(), 16, MEAN, STD), random.Random(0)
    image = noise(0, (50, 40))
    assert not make(image, rng).equal(make(image, rng))


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (7, 5), (640, 480)])
def test_any_size_of_image(size):
    for seed in range(20):
        found = view(AugmentConfig(), noise(0, size), seed)
        assert found.shape == (3, 16, 16)
        assert found.isfinite().all()


def test_crop_keeps_the_configured_share_and_ratio():
    """Read off an image whose red and green are the coordinates of the pixel."""
    x, y = np.meshgrid(np.arange(250), np.arange(250))
    image = Image.fromarray(np.stack([x, y, 0 * x], axis=-1).astype(np.uint8))
    corners = []
    for seed in range(300):
        crop = np.asarray(augment.random_crop(image, random.Random(seed), size=64, scale=(0.2, 0.6)), dtype=float)
        width, height = ((crop[32, 60, 0] - crop[32, 3, 0]) / 57, (crop[60, 32, 1] - crop[3, 32, 1]) / 57)
        width, height = width * 64, height * 64
        assert 0.2 * 250**2 * 0.93 < width * height < 0.6 * 250**2 * 1.07
        assert 3 / 4 * 0.95 < width / height < 4 / 3 * 1.05
        corners.append(crop[0, 0, :2])
    assert np.min(corners, axis=0).max() < 10
    assert np.max(corners, axis=0).min() > 100


def test_min_side_is_enough_for_every_crop():
    """The smallest crop of a square of min_side still has image_size pixels a side."""
    config = replace(NO_AUGMENT, crop_scale=(0.2, 0.2))
    side = Augment(config, 64, MEAN, STD).min_side
    smallest = min((side * side * 0.2 * ratio) ** 0.5 for ratio in (3 / 4, 4 / 3))
    assert 64 <= smallest < 65


@pytest.mark.parametrize(
    ("config", "operation"),
    [
        (replace(NO_AUGMENT, flip_prob=0.3), augment.flip),
        (replace(NO_AUGMENT, grayscale_prob=0.3), augment.grayscale),
    ],
)
def test_probability(config, operation):
    image = noise()
    plain, changed = view(NO_AUGMENT, image), to_tensor(operation(image, random.Random()), (0,) * 3, (1 / 255,) * 3)
    found = Counter()
    for seed in range(400):
        result = view(config, image, seed)
        found["plain" if result.equal(plain) else "changed" if torch.allclose(result, changed) else "other"] += 1
    assert found["other"] == 0
    assert abs(found["changed"] - 120) < 4 * (400 * 0.3 * 0.7) ** 0.5


def test_flip_and_grayscale():
    image = noise()
    assert np.array_equal(np.array(augment.flip(image, random.Random())), np.array(image)[:, ::-1])
    grey = np.array(augment.grayscale(image, random.Random()), dtype=float)
    luma = np.array(image, dtype=float) @ [0.299, 0.587, 0.114]
    assert abs(grey - luma[..., None]).max() <= 1


def test_blur_smooths_and_keeps_the_mean():
    image = noise(0, (64, 64))
    sharp = np.array(image, dtype=float)
    for seed in range(10):
        soft = np.array(augment.blur(image, random.Random(seed)), dtype=float)
        assert soft.std() <= sharp.std()
        assert abs(soft.mean() - sharp.mean()) < 2


def test_color_jitter_brightness_is_a_factor_within_strength():
    image = Image.new("RGB", (4, 4), (100, 100, 100))
    factors = [
        augment.color_jitter(image, random.Random(seed), strengths=(0.4, 0, 0, 0)).getpixel((0, 0))[0] / 100
        for seed in range(200)
    ]
    assert 0.59 <= min(factors) < 0.65
    assert 1.35 < max(factors) <= 1.41


def test_turning_the_hue_by_thirds_swaps_the_primaries():
    image = Image.new("RGB", (2, 2), (255, 0, 0))
    assert np.abs(np.array(augment.turn_hue(image, 1 / 3))[0, 0].astype(int) - (0, 255, 0)).max() <= 3
    assert np.abs(np.array(augment.turn_hue(image, -1 / 3))[0, 0].astype(int) - (0, 0, 255)).max() <= 3
    assert augment.turn_hue(image, 0.0).getpixel((0, 0)) == (255, 0, 0)


def test_rand_augment_has_the_published_operations():
    published = {"Identity", "AutoContrast", "Equalize", "Brightness", "Sharpness"}
    published |= {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"}
    ours = {operation.__name__.replace("_", "") for operation in rand_augment.OPERATIONS}
    assert ours == {name.lower() for name in published}


def test_rand_augment_applies_each_draw_with_probability_one_half(monkeypatch):
    """With one operation that adds 1 to every pixel, the result counts how often it was applied."""

    def add_one(image, strength, sign):
        return image.point(lambda level: level + 1)

    monkeypatch.setattr(rand_augment, "OPERATIONS", (add_one,))
    black = Image.new("RGB", (1, 1))
    applied = Counter(
        rand_augment.rand_augment(black, random.Random(seed), operations=2, magnitude=7).getpixel((0, 0))[0]
        for seed in range(1000)
    )
    for times, probability in ((0, 0.25), (1, 0.5), (2, 0.25)):
        assert abs(applied[times] - 1000 * probability) < 4 * (1000 * probability * (1 - probability)) ** 0.5


def test_rand_augment_strengths():
    """At magnitude 7 as in the paper: brightness 1.36, shifts of 7 pixels, shear 0.21, 21 degrees; grey where empty."""
    grey = Image.new("RGB", (41, 41), (100, 100, 100))
    assert rand_augment.brightness(grey, 0.7, 1).getpixel((0, 0)) == (136, 136, 136)

    dot = Image.new("RGB", (41, 41))
    dot.putpixel((20, 10), (255, 255, 255))

    def brightest(image) -> tuple[int, int]:
        pixels = np.asarray(image)[..., 0].astype(int)
        pixels[pixels == 128] = 0
        return tuple(int(i) for i in np.unravel_index(pixels.argmax(), pixels.shape)[::-1])

    assert brightest(rand_augment.translate_x(dot, 0.7, 1)) == (27, 10)
    assert brightest(rand_augment.translate_x(dot, 0.7, -1)) == (13, 10)
    assert brightest(rand_augment.translate_y(dot, 0.7, 1)) == (20, 17)
    assert rand_augment.translate_y(dot, 0.7, 1).getpixel((0, 0)) == (128, 128, 128)
    assert brightest(rand_augment.shear_x(dot, 0.7, 1)) == (20 + round(0.21 * 10), 10)
    assert brightest(rand_augment.shear_y(dot, 0.7, 1)) == (20, 10 + round(0.21 * 20))
    angle = np.radians(21)
    x, y = 20 - 10 * np.sin(angle), 20 - 10 * np.cos(angle)
    assert np.abs(np.subtract(brightest(rand_augment.rotate(dot, 0.7, 1)), (x, y))).max() <= 1


def test_nothing_global_is_touched():
    state, torch_state, numpy_state = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].copy()
    view(AugmentConfig(), noise(0, (50, 40)))
    assert random.getstate() == state
    assert torch.get_rng_state().equal(torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
