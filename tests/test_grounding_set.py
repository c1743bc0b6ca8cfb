"""Shards to evaluate grounding on: what is read, and what is left out and counted, one by one."""

import json
from collections import Counter
from functools import partial

import pytest
from data_files import TOKENIZER, encode, noise, write_tar

from tcl.data.sets.grounding_set import load_grounding_set
from tcl.data.texts.tokenize import knows_a_word
from tcl.errors import InputError

IMAGES = [encode(noise(i, (40, 30)), "PNG") for i in range(4)]
GOOD = {"captions": ["a red dog", "Cat!"], "boxes": [[0, 0, 20, 10], [5.5, 2, 9, 8]], "proposals": [[1, 2, 3, 4]]}


def load(tmp_path, *samples: dict, images=IMAGES, **options):
    entries = []
    for i, (said, image) in enumerate(zip(samples, images, strict=False)):
        entries += [(f"{i}.png", image), (f"{i}.json", json.dumps(said).encode())]
    write_tar(tmp_path / "000000.tar", entries)
    given = {"max_words": 8, "max_pixels": 10**6} | options
    return load_grounding_set(str(tmp_path / "*.tar"), partial(knows_a_word, TOKENIZER), **given)


def test_expressions_in_the_order_of_the_shards(tmp_path):
    named = GOOD | {"caption_ids": [7, "x"], "captions": ["dog", "the dog"]}
    found = load(tmp_path, GOOD, named, GOOD, images=[IMAGES[0], IMAGES[1], IMAGES[0]])
    assert [one.id for one in found.expressions] == [
        *("000000.tar/0#0", "000000.tar/0#1", "7", "x", "000000.tar/2#0", "000000.tar/2#1")
    ]
    assert [one.text for one in found.expressions] == ["a red dog", "cat", "dog", "the dog", "a red dog", "cat"]
    assert [one.image for one in found.expressions] == [0, 0, 1, 1, 0, 0] and found.images == IMAGES[:2]
    one = found.expressions[1]
    assert one.box == (5.5, 2, 9, 8) and one.size == (30, 40) and one.proposals == ((1, 2, 3, 4),)
    assert not found.bad


@pytest.mark.parametrize("most", [1, 2, 3, 4, 100])
def test_the_first_ones(tmp_path, most):
    found = load(tmp_path, GOOD, GOOD, max_expressions=most)
    assert len(found.expressions) == min(most, 4)


def test_boxes_are_given_in_pixels_of_the_image_before_it_was_shrunk(tmp_path):
    large = GOOD | {"height": 301, "width": 400, "boxes": [[300, 200, 90, 90], None]}
    found = load(tmp_path, large)
    (one,) = found.expressions
    assert one.size == (301, 400) and one.box == (300, 200, 90, 90)
    assert found.bad == {"expression without a box": 1}


@pytest.mark.parametrize(
    ("changes", "bad"),
    [
        ({"boxes": [[0, 0, 0, 5], [0, 0, 2, 2]]}, {"box of no area": 1}),
        ({"boxes": [[0, 0, 5, 5], [40, 0, 5, 5]]}, {"box outside of the image": 1}),
        ({"boxes": [[0, 0, 5, 5], [0, 30.5, 5, 5]]}, {"box outside of the image": 1}),
        ({"boxes": [[0, 0, 5, "x"], [0, 0, 5, 5]]}, {"box is not four numbers: x, y, width, height": 1}),
        ({"captions": ["a dog", "zzz qqq"]}, {"expression of no known word": 1}),
        ({"captions": ["a dog", "?!"]}, {"empty caption": 1}),
        ({"captions": [None, "a dog"]}, {"empty caption": 1}),
        ({"proposals": [[0, 0, 1, 0]]}, {"proposal: box of no area": 1}),
        ({"proposals": [[99, 0, 1, 1], [0, 0, 1, 1], None]}, {"proposal: box outside of the image": 1}
         | {"proposal: box is not four numbers: x, y, width, height": 1}),
    ],
)  # fmt: skip
def test_expressions_and_proposals_are_left_out_alone(tmp_path, changes, bad):
    found = load(tmp_path, GOOD | changes)
    assert found.bad == bad
    spoilt = sum(count for cause, count in bad.items() if not cause.startswith("proposal"))
    assert len(found.expressions) == 2 - spoilt
    assert all(box[2] > 0 for one in found.expressions for box in one.proposals)


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ({"captions": ["a dog"]}, "no boxes"),
        (GOOD | {"boxes": [[0, 0, 5, 5]]}, "not as many boxes as captions"),
        (GOOD | {"boxes": {"a": 1}}, "not as many boxes as captions"),
        (GOOD | {"caption_ids": [1]}, "not as many caption_ids as captions"),
        (GOOD | {"captions": [1, 2]}, "caption in JSON is not text"),
        (GOOD | {"captions": 5}, "caption in JSON is not text"),
        (GOOD | {"proposals": {"a": 1}}, "proposals are not a list of boxes"),
        (GOOD | {"proposals": [[0, 0, 1, 1]] * 10_001}, "more than 10,000 expressions or proposals"),
        (GOOD | {"height": 40, "width": 30}, "image of another shape than its height and width say"),
        (GOOD | {"height": 30}, "image of another shape than its height and width say"),
        (GOOD | {"height": "x", "width": 40}, "image of another shape than its height and width say"),
        (GOOD | {"height": -30, "width": -40}, "image of another shape than its height and width say"),
    ],
)
def test_samples_that_cannot_be_used_are_counted(tmp_path, said, cause):
    found = load(tmp_path, GOOD, said)
    assert found.bad == Counter({cause: 1}) and len(found.expressions) == 2
    with pytest.raises(InputError, match=rf"^data\.val: .* holds no usable expression with a box: {cause} 1$"):
        load(tmp_path, said)


def test_an_image_of_which_nothing_is_usable_is_not_kept(tmp_path):
    nothing = GOOD | {"captions": ["zzz", "qqq"]}
    found = load(tmp_path, nothing, GOOD)
    assert found.images == IMAGES[1:2] and {one.image for one in found.expressions} == {0}


def test_broken_images_are_counted(tmp_path):
    found = load(tmp_path, GOOD, GOOD, images=[b"no image", IMAGES[1]])
    assert found.bad.total() == 1 and found.images == IMAGES[1:2]
