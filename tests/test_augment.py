"""The two augmented views: what is drawn, and how often; and the plain transform of evaluation."""

import pickle
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from data_files import NO_AUGMENT, noise

from tcl.config.data import AugmentConfig
from tcl.data.images import image_operations as op
from tcl.data.images import rand_augment
from tcl.data.images.augment import Augment, draw_box, draw_color_jitter, draw_view, eval_transform
from tcl.data.images.rand_augment import draw_rand_augment
from tcl.data.images.view_step import Step

MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)


def view(config: AugmentConfig, pixels: np.ndarray, seed: int = 0, size: int = 16) -> torch.Tensor:
    return Augment(config, size)(pixels, random.Random(seed)).pixels


def pixels_of(size: tuple[int, int] = (16, 16)) -> np.ndarray:
    return np.array(noise(0, size))


def drawn(config: AugmentConfig, seed: int) -> list[Step]:
    return draw_view(config, 16, 50, 40, random.Random(seed))


def test_eval_transform_squeezes_the_whole_image():
    pixels = np.zeros((10, 40, 3), dtype=np.uint8)
    pixels[:, :20, 0] = pixels[:, 20:, 2] = 255
    found = eval_transform(8, MEAN, STD)(pixels)
    red, blue = [((np.array(colour) - MEAN) / STD).tolist() for colour in ((1, 0, 0), (0, 0, 1))]
    assert found.shape == (3, 8, 8) and found.dtype == torch.float32
    assert found[:, 4, 0].tolist() == pytest.approx(red, abs=0.1)
    assert found[:, 4, 7].tolist() == pytest.approx(blue, abs=0.1)


def test_whole_images_are_squeezed_as_in_evaluation():
    """Wide and high ones too, of which a crop of any scale would leave something out."""
    config = replace(NO_AUGMENT, whole_image=True, crop_scale=(0.2, 0.3))
    for size in ((60, 20), (20, 60), (16, 16)):
        pixels = pixels_of(size)
        found = view(config, pixels)
        assert found.numpy().tobytes() == op.resized_crop(pixels, op.Box(0, 0, *size), 16).transpose(2, 0, 1).tobytes()
    assert Augment(config, 16).min_side == 16


def test_eval_transform_reaches_workers_that_are_spawned():
    pixels = pixels_of((20, 12))
    transform = eval_transform(8, MEAN, STD)
    assert pickle.loads(pickle.dumps(transform))(pixels).equal(transform(pixels))


def test_all_operations_may_be_in_a_view_and_what_is_switched_off_never():
    everything = {*rand_augment.OPERATIONS, op.resized_crop, op.contrast, op.saturation, op.hue}
    everything |= {op.grayscale, op.blur, op.flip}

    def found(**options) -> set:
        config = replace(AugmentConfig(), **options)
        return {step.operation for seed in range(300) for step in drawn(config, seed)}

    assert found() == everything
    assert found(color_jitter=(0, 0, 0, 0)) == everything - {op.contrast, op.saturation, op.hue}
    assert found(color_jitter=(0.4, 0.4, 0, 0.1)) == everything - {op.saturation}
    assert found(blur_prob=0) == everything - {op.blur}
    without = {op.resized_crop, op.brightness, op.contrast, op.saturation, op.hue, op.grayscale, op.blur, op.flip}
    assert found(randaugment_magnitude=0) == found(randaugment_ops=0) == without
    assert {step.operation for seed in range(300) for step in drawn(NO_AUGMENT, seed)} == {op.resized_crop}


def test_operations_come_in_the_papers_order():
    """Crop, jitter, grey, blur, flip, then RandAugment."""
    config = replace(AugmentConfig(), color_jitter_prob=1, grayscale_prob=1, blur_prob=1, flip_prob=1)
    for seed in range(20):
        operations = [step.operation for step in drawn(config, seed)]
        assert operations[0] is op.resized_crop
        assert set(operations[1:5]) == {op.brightness, op.contrast, op.saturation, op.hue}
        assert operations[5:8] == [op.grayscale, op.blur, op.flip]
        assert set(operations[8:]) <= set(rand_augment.OPERATIONS)


def test_a_view_is_what_its_steps_make():
    pixels = pixels_of((50, 40))
    for seed in range(20):
        by_hand = pixels
        for operation, values in drawn(AugmentConfig(), seed):
            by_hand = operation(by_hand, *values)
        found = view(AugmentConfig(), pixels, seed)
        assert found.dtype == torch.uint8
        assert np.array_equal(found.permute(1, 2, 0).numpy(), by_hand)


def test_with_everything_off_a_square_image_stays_as_it_is():
    assert np.array_equal(view(NO_AUGMENT, pixels_of()).permute(1, 2, 0), pixels_of())


def test_a_view_is_a_function_of_the_generator():
    pixels = pixels_of((50, 40))
    first, again, other = (view(AugmentConfig(), pixels, seed) for seed in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)


def test_two_views_from_one_generator_differ():
    make, rng = Augment(AugmentConfig(), 16), random.Random(0)
    pixels = pixels_of((50, 40))
    assert not make(pixels, rng).pixels.equal(make(pixels, rng).pixels)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (7, 5), (640, 480)])
def test_any_size_of_image(size):
    for seed in range(20):
        assert view(AugmentConfig(), pixels_of(size), seed).shape == (3, 16, 16)


def test_boxes_keep_the_configured_share_and_ratio():
    boxes = [draw_box(250, 250, (0.2, 0.6), random.Random(seed)) for seed in range(500)]
    shares = np.array([box.width * box.height / 250**2 for box in boxes])
    ratios = np.array([box.width / box.height for box in boxes])
    assert 0.19 < shares.min() < 0.22 and 0.58 < shares.max() < 0.61
    assert 0.74 < ratios.min() < 0.77 and 1.3 < ratios.max() < 1.35
    assert abs(np.median(shares) - 0.4) < 0.03 and abs(np.median(ratios) - 1) < 0.05
    for start, length in ((0, 2), (1, 3)):
        starts, ends = np.array([(box[start], box[start] + box[length]) for box in boxes]).T
        assert starts.min() == 0 and ends.max() == 250


def test_a_very_wide_image_gives_its_centre():
    assert draw_box(500, 10, (0.5, 1.0), random.Random(0)) == (243, 0, 13, 10)


def test_min_side_is_enough_for_every_crop():
    """The smallest crop of a square of min_side still has image_size pixels a side."""
    config = replace(NO_AUGMENT, crop_scale=(0.2, 0.2))
    side = Augment(config, 64).min_side
    smallest = min((side * side * 0.2 * ratio) ** 0.5 for ratio in (3 / 4, 4 / 3))
    assert 64 <= smallest < 65


@pytest.mark.parametrize(
    ("option", "probability", "operation"),
    [
        ("flip_prob", 0.3, op.flip),
        ("grayscale_prob", 0.2, op.grayscale),
        ("blur_prob", 0.5, op.blur),
        ("color_jitter_prob", 0.8, op.hue),
    ],
)
def test_probability(option, probability, operation):
    config = replace(NO_AUGMENT, **{option: probability})
    found = sum(operation in [step.operation for step in drawn(config, seed)] for seed in range(400))
    assert abs(found - 400 * probability) < 4 * (400 * probability * (1 - probability)) ** 0.5


def test_blur_is_of_the_papers_width():
    config = replace(NO_AUGMENT, blur_prob=1)
    sigmas = [drawn(config, seed)[1].values[0] for seed in range(200)]
    assert 0.1 <= min(sigmas) < 0.15 and 1.95 < max(sigmas) <= 2


def test_color_jitter_is_within_its_strengths_in_any_order():
    found: dict = {}
    firsts = Counter()
    for seed in range(400):
        steps = draw_color_jitter((0.4, 0.3, 1.5, 0.1), random.Random(seed))
        firsts[steps[0].operation] += 1
        for operation, (value,) in steps:
            found.setdefault(operation, []).append(value)
    for operation, low, high in (
        (op.brightness, 0.6, 1.4),
        (op.contrast, 0.7, 1.3),
        (op.saturation, 0, 2.5),
        (op.hue, -0.1, 0.1),
    ):
        slack = (high - low) / 40
        assert low <= min(found[operation]) < low + slack and high - slack < max(found[operation]) <= high
        assert abs(firsts[operation] - 100) < 4 * (400 * 0.25 * 0.75) ** 0.5


def test_rand_augment_has_the_published_operations():
    published = {"Identity", "AutoContrast", "Equalize", "Brightness", "Sharpness"}
    published |= {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"}
    ours = {operation.__name__.replace("_", "") for operation in rand_augment.OPERATIONS}
    assert ours == {name.lower() for name in published}


def test_rand_augment_takes_each_draw_with_probability_one_half():
    taken, operations = Counter(), Counter()
    for seed in range(1000):
        steps = draw_rand_augment(2, 7, random.Random(seed))
        taken[len(steps)] += 1
        operations.update(step.operation for step in steps)
    for times, probability in ((0, 0.25), (1, 0.5), (2, 0.25)):
        assert abs(taken[times] - 1000 * probability) < 4 * (1000 * probability * (1 - probability)) ** 0.5
    assert all(abs(operations[operation] - 100) < 4 * 100**0.5 for operation in rand_augment.OPERATIONS)


def test_rand_augment_strengths():
    """At magnitude 7 as in the paper: brightness and sharpness 1.36, shifts of 7 pixels, shear 0.21, 21 degrees."""
    found = {step for seed in range(1000) for step in draw_rand_augment(2, 7, random.Random(seed))}
    one_way = {op.identity: (), op.autocontrast: (), op.equalize: (), op.brightness: 1.36, op.sharpness: 1.36}
    both_ways = {op.shear_x: 0.21, op.shear_y: 0.21, op.translate_x: 7, op.translate_y: 7, op.rotate: 21}
    for operation, value in one_way.items():
        assert [step.values for step in found if step.operation is operation] == [
            pytest.approx((value,)) if value else ()
        ]
    for operation, value in both_ways.items():
        values = sorted(step.values[0] for step in found if step.operation is operation)
        assert values == pytest.approx([-value, value])


def test_nothing_global_is_touched():
    state, torch_state, numpy_state = random.getstate(), torch.get_rng_state(), np.random.get_state()[1].copy()
    view(AugmentConfig(), pixels_of((50, 40)))
    assert random.getstate() == state
    assert torch.get_rng_state().equal(torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
