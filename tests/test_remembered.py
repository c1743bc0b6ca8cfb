"""Frozen towers that remember: the same tokens, computed once, whatever else is in the batch."""

import copy
import random

import numpy as np
import pytest
import torch
from data_files import noise
from safetensors.torch import load_file
from small_run import rows, small_run
from small_run import train as train_small
from test_frozen import FROZEN, calls_of, frozen
from tiny import random_batch, tiny_models

from tcl.config.data import AugmentConfig
from tcl.data.images.augment import Augment
from tcl.encoders.remembered import Remembered, stack_padded, unpadded
from tcl.errors import InputError


def remembering(images: int, texts: int, image: str | None = None):
    model = frozen(image)
    model.image.remember, model.text.remember = images, texts
    return model


def test_an_output_is_computed_once_for_equal_inputs_until_the_memory_is_full():
    asked = []

    def doubled(rows):
        asked.append(rows[:, 0].tolist())
        return rows * 2

    remembered = Remembered(2)
    inputs = [torch.tensor([float(i)] * length) for i, length in ((3, 2), (4, 2), (3, 2), (5, 3), (5, 3), (4, 2))]
    outputs = remembered(doubled, inputs)
    assert all(out.equal(one * 2) for one, out in zip(inputs, outputs, strict=True))
    assert asked == [[3, 4, 4, 4], [5, 5, 5, 5]], "those of one shape together, always four"
    again = copy.deepcopy(remembered)(doubled, inputs)
    assert all(out.equal(one * 2) for one, out in zip(inputs, again, strict=True))
    assert asked[2:] == [[5, 5, 5, 5]], "a copy shares what is kept, for which there was no room"


def test_texts_without_their_padding_and_back():
    ids = torch.tensor([[2, 7, 0, 0], [2, 8, 9, 3]])
    texts = unpadded(ids, torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]]))
    assert [text.tolist() for text in texts] == [[2, 7], [2, 8, 9, 3]]
    assert stack_padded(texts, 4).equal(ids)


@pytest.mark.parametrize("image", [None, "resnet10t"])
def test_losses_are_those_of_towers_that_do_not_remember(image):
    batches = [random_batch(4, seed) for seed in (0, 1, 0, 1)]
    losses = []
    for model in (frozen(image), remembering(100, 100, image)):
        student, teacher = tiny_models(model=model)
        torch.manual_seed(1)
        each = []
        for batch in batches:
            targets = teacher(batch, {"temperature": student.temperature.detach()}, 0.4)
            each.append(student(batch, targets).each)
        losses.append(each)
    for plain, remembered in zip(*losses, strict=True):
        assert plain.keys() == remembered.keys()
        for name, value in plain.items():
            torch.testing.assert_close(remembered[name], value, atol=1e-5, rtol=1e-4)


def test_what_comes_again_is_not_run_again_and_masked_texts_are_not_kept():
    student, teacher = tiny_models(model=remembering(100, 100))
    images, texts = calls_of(student.encoders.image_encoder.vit), calls_of(student.encoders.text_encoder.bert)
    batch = random_batch(4)
    lengths = len(set(batch.inputs["text"].mask.sum(dim=1).tolist()))
    for calls in ((2, 1 + lengths), (0, 1)):  # two views of four images; texts by length, and all masked ones at once
        student(batch, teacher(batch, {"temperature": student.temperature.detach()}, 0.4)).total.backward()
        assert (len(images), len(texts)) == calls
        images.clear(), texts.clear()
    assert len(student.encoders.text_encoder.remembered._kept) == 4


def test_tokens_depend_on_nothing_but_their_own_input():
    """To the last bit, as a resumed run needs."""
    batch = random_batch(6)
    views, texts = batch.inputs["image"].view, batch.inputs["text"]
    found = []
    for order in ([0, 1, 2, 3, 4, 5], [5, 0], [3, 4, 2, 1]):
        encoders = tiny_models(model=remembering(100, 100, "resnet10t"))[0].train().encoders
        length = int(texts.mask[order].sum(dim=1).max())
        tokens = encoders.text_encoder(texts.ids[order, :length], texts.mask[order, :length])
        features = encoders.image_encoder.features(views[order])
        found.append({i: (features[row], tokens[row, : texts.mask[i].sum()]) for row, i in enumerate(order)})
    for some in found[1:]:
        for i, (features, tokens) in some.items():
            assert features.equal(found[0][i][0]) and tokens.equal(found[0][i][1])


def test_in_evaluation_nothing_is_kept():
    encoders = tiny_models(model=remembering(100, 100))[0].eval().encoders
    batch = random_batch(4)
    encoders.image_encoder(batch.inputs["image"].view)
    encoders.text_encoder(batch.inputs["text"].ids, batch.inputs["text"].mask)
    assert not encoders.image_encoder.remembered._kept and not encoders.text_encoder.remembered._kept


def test_an_image_has_as_many_views_as_it_was_given():
    image, other = (np.asarray(noise(seed, (40, 30))) for seed in (0, 1))
    augment, rng = Augment(AugmentConfig(views=3), 16), random.Random(0)
    views = [augment(image, rng).pixels for _ in range(60)]
    distinct = {view.numpy().tobytes() for view in views}
    assert len(distinct) == 3
    again = Augment(AugmentConfig(views=3), 16)
    assert {again(image, random.Random(seed)).pixels.numpy().tobytes() for seed in range(40)} == distinct
    assert not distinct & {augment(other, rng).pixels.numpy().tobytes() for _ in range(20)}


def test_a_run_that_remembers_goes_on_to_the_bit(tmp_path):
    remember = ["--data.augment.views=2", "--model.image.remember=100", "--model.text.remember=100"]
    options = [*small_run(tmp_path), *FROZEN, *remember, "--train.steps=12"]
    whole = train_small(options, tmp_path / "whole", "--train.save_every=6")
    again = train_small(options, tmp_path / "parts", f"--train.resume={whole.with_name('step_00000006')}")
    for name in ("student", "optimizer", "teacher"):
        ours, theirs = load_file(again / f"{name}.safetensors"), load_file(whole / f"{name}.safetensors")
        assert ours.keys() == theirs.keys() and all(ours[one].equal(theirs[one]) for one in ours)
    losses = [[row["loss"] for row in rows(tmp_path / one) if "loss" in row] for one in ("whole", "parts")]
    assert losses[0][6:] == losses[1]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.image.remember=5", "model.image.remember: 5 is not possible; accepted: 0, unless model.image.frozen"),
        ("model.text.remember=5", "model.text.remember: 5 is not possible; accepted: 0, unless model.text.frozen"),
        ("model.image.remember=-1", "model.image.remember: -1 is not possible; accepted: 0, unless"),
        ("data.augment.views=0", "data.augment.views: 0 is not possible; accepted:"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, option, message):
    with pytest.raises(InputError) as told:
        train_small(small_run(tmp_path), tmp_path / "run", f"--{option}")
    assert str(told.value).startswith(message)
