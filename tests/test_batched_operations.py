"""The rest of an augmented view on the training device, against the same steps on one image in a worker."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from data_files import config, loader, write_shards
from torch import Tensor

from tcl.config.data import AugmentConfig
from tcl.data.images import image_operations as op
from tcl.data.images.augment import Augment, draw_view
from tcl.data.images.batched_operations import OPERATIONS, take_steps
from tcl.data.images.image_views import Images, prepare_images
from tcl.data.images.view_step import Step

NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
LARGEST_DIFFERENCE = {op.hue: 6}
"""In levels, where 1 is not enough: workers turn colours in 8 bits."""
RANGES = {
    op.brightness: (0.1, 1.9),
    op.contrast: (0.5, 1.5),
    op.saturation: (0.5, 1.5),
    op.hue: (-0.5, 0.5),
    op.blur: (0.1, 2.0),
    op.sharpness: (0.1, 1.9),
    op.shear_x: (-0.3, 0.3),
    op.shear_y: (-0.3, 0.3),
    op.translate_x: (-10, 10),
    op.translate_y: (-10, 10),
    op.rotate: (-30.0, 30.0),
}


def images() -> list[np.ndarray]:
    """Of 32 x 32 pixels: waves of colour with some noise, few levels, one colour, black, and nothing but noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32] / 32
    found = []
    for _ in range(20):
        a, b, c = rng.uniform(-9, 9, (3, 3, 1, 1))
        waves = 127 + 120 * np.sin(a * x + b * y + c) + rng.normal(0, 4, (3, 32, 32))
        found.append(waves.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
    found.append(np.where(found[0] > 127, 200, 30).astype(np.uint8))
    found.append(np.full((32, 32, 3), (10, 200, 90), dtype=np.uint8))
    found.append(np.zeros((32, 32, 3), dtype=np.uint8))
    found.append(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
    return found


def batch_of(pixels: list[np.ndarray]) -> Tensor:
    return torch.stack([torch.from_numpy(np.ascontiguousarray(one)).permute(2, 0, 1) for one in pixels])


def values_of(operation, rng: random.Random) -> tuple:
    if operation not in RANGES:
        return ()
    low, high = RANGES[operation]
    return (rng.randint(low, high) if isinstance(low, int) else rng.uniform(low, high),)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_GPU)])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_an_operation_does_to_many_images_what_it_does_to_one(operation, device):
    rng = random.Random(0)
    pixels = images() * 3
    steps = [Step(operation, values_of(operation, rng)) for _ in pixels]
    before = batch_of(pixels)
    found = take_steps(before.to(device), [[step] for step in steps]).cpu()
    right = batch_of([operation(one, *step.values) for one, step in zip(pixels, steps, strict=True)])
    difference = (found.float() - right.float()).abs()
    assert found.dtype == torch.uint8 and before.equal(batch_of(pixels))
    assert difference.max() <= LARGEST_DIFFERENCE.get(operation, 1)
    assert difference.mean() < 0.5


def test_every_step_that_can_be_drawn_has_a_batched_form():
    drawn = (draw_view(AugmentConfig(), 16, 40, 40, random.Random(seed))[1:] for seed in range(300))
    assert {step.operation for steps in drawn for step in steps} == set(OPERATIONS)


def test_each_image_takes_its_own_steps_in_their_order():
    """Steps whose order matters, of different numbers; some images take none."""
    dark, turned = Step(op.brightness, (0.5,)), Step(op.rotate, (30.0,))
    flipped, shifted = Step(op.flip), Step(op.translate_x, (7,))
    orders = [
        [dark, turned],
        [turned, dark],
        [],
        [flipped, shifted, turned],
        [shifted, flipped],
        [turned, turned, dark],
    ]
    pixels = images()[: len(orders)]
    right = []
    for one, order in zip(pixels, orders, strict=True):
        for operation, values in order:
            one = operation(one, *values)
        right.append(one)
    difference = (take_steps(batch_of(pixels), orders).float() - batch_of(right).float()).abs()
    assert difference.max() <= 2


def test_without_steps_nothing_is_copied():
    pixels = batch_of(images())
    assert take_steps(pixels, []) is pixels and take_steps(pixels, [[] for _ in pixels]) is pixels


def test_more_images_than_an_operation_takes_at_a_time():
    pixels = batch_of(images() * 11)
    assert take_steps(pixels, [[Step(op.flip)]] * len(pixels)).equal(pixels.flip(-1))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_that_workers_make_alone(tmp_path, workers):
    """Two views of every pair, the whole augmentation, and a batch after it without steps."""
    shards = write_shards(tmp_path / "shards", [9, 8])
    alone = config(shards, augment=AugmentConfig(), workers=workers)
    shared = replace(alone, augment=AugmentConfig(on_device=True))
    left = 0
    for _, right, batch in zip(range(4), loader(alone), loader(shared), strict=False):
        images = batch.inputs["image"]
        left += sum(map(len, images.steps + images.other_steps))
        of_workers = right.inputs["image"]
        assert not any(of_workers.steps + of_workers.other_steps)
        assert right.keys == batch.keys and right.inputs["text"].ids.equal(batch.inputs["text"].ids)
        for found, expected in (
            (take_steps(images.view, images.steps), of_workers.view),
            (take_steps(images.other_view, images.other_steps), of_workers.other_view),
        ):
            difference = (found.float() - expected.float()).abs()
            assert difference.mean() < 2, "levels of noise, the hardest images there are"
    assert left > 32


def test_a_question_has_one_view():
    pixels = images()[0]
    view = Augment(AugmentConfig(on_device=True), 16)(pixels, random.Random(3))
    assert view.steps
    right = Augment(AugmentConfig(), 16)(pixels, random.Random(3)).pixels
    found = prepare_images(Images(view.pixels[None], steps=[view.steps]), torch.Tensor.float)
    assert found.other_view is None
    difference = (found.view[0] - right.float()).abs()
    assert difference.mean() < 2
