"""Expressions with boxes in every form that they come in: one sample for each image, and what is skipped, by name."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from data_files import TOKENIZER
from test_annotations import made, write_json, write_lines

from tcl.annotations.read_rows import read_rows
from tcl.data.sets.grounding_set import load_grounding_set
from tcl.data.sets.retrieval_set import load_retrieval_set
from tcl.data.texts.tokenize import knows_a_word
from tcl.errors import InputError
from tools.demo_grounding import box_of, make_demo_grounding, phrases
from tools.demo_scenes import COLOURS, draw_scene, render

LINES = [
    {"ref_id": 5, "image": "a.jpg", "width": 16, "height": 16, "text": "the dog", "box": [1, 2, 3.5, 4]}
    | {"proposals": [[1, 2, 3.5, 4], [0, 0, 16, 16, 0.9], "x"], "caption": "a dog on a mat"},
    {"ref_id": 6, "image": "b.jpg", "width": 16, "height": 16, "text": "a cat", "box": [0, 0, 5, 5]},
    {"ref_id": 5, "image": "a.jpg", "text": "the mat", "box": [0, 8, 16, 8]},
    {"ref_id": 7, "image": "a.jpg", "width": 16, "height": 16, "text": "outside", "box": [16, 0, 5, 5]},
    {"ref_id": 8, "image": "a.jpg", "text": "flat", "box": [0, 0, 5, 0]},
    {"ref_id": 9, "image": "a.jpg", "text": "no box"},
    {"ref_id": 9, "image": "a.jpg", "text": "three numbers", "box": [1, 2, 3]},
    {"ref_id": 9, "image": "a.jpg", "text": " ", "box": [0, 0, 5, 5]},
    {"ref_id": 9, "image": "a.jpg", "text": 5, "box": [0, 0, 5, 5]},
    {"ref_id": 9, "text": "no image", "box": [0, 0, 5, 5]},
    "no row",
]
SAMPLES = [
    {
        "captions": ["the dog", "the mat"],
        "caption_ids": [5, "5#1"],
        "boxes": [[1, 2, 3.5, 4], [0, 8, 16, 8]],
        "proposals": [[1, 2, 3.5, 4], None, None],
        "height": 16,
        "width": 16,
        "image": "a.jpg",
    },
    {
        "captions": ["a cat"],
        "caption_ids": [6],
        "boxes": [[0, 0, 5, 5]],
        "proposals": [],
        "height": 16,
        "width": 16,
        "image": "b.jpg",
    },
]
CAUSES = [
    "box outside of the image",
    "box of no area",
    'no "box", which others have',
    "box is not four numbers: x, y, width, height",
    "empty caption",
    "expression is not text",
    'no "image"',
]


def test_lines(tmp_path):
    """And what they become is what evaluation and retrieval read."""
    samples, skipped = made(tmp_path, "refcoco", write_lines(tmp_path / "dev.jsonl", LINES), ["a.jpg", "b.jpg"])
    assert samples == SAMPLES
    assert [cause for _, _, cause in skipped] == [*CAUSES, "line is not JSON"]
    assert skipped[0][:2] == ("line 4", "a.jpg")
    reading = {"max_words": 8, "max_pixels": 10**6}
    found = load_grounding_set(str(tmp_path / "out" / "*.tar"), partial(knows_a_word, TOKENIZER), **reading)
    assert [(one.id, one.text, one.box) for one in found.expressions[:1]] == [("5", "the dog", (1, 2, 3.5, 4))]
    assert found.bad["proposal: box is not four numbers: x, y, width, height"] == 2
    assert load_retrieval_set(str(tmp_path / "out" / "*.tar"), **reading).caption_ids == ["5", "5#1", "6"]


def test_a_list_without_any_box_is_to_train_on(tmp_path):
    rows = [{"image": "a.jpg", "text": "the dog"}, {"image": "a.jpg", "text": "the mat"}]
    samples, skipped = made(tmp_path, "refcoco", write_json(tmp_path / "train.json", rows), ["a.jpg"])
    assert samples == [{"captions": ["the dog", "the mat"], "caption_ids": ["item 0", "item 1"], "image": "a.jpg"}]
    assert not skipped


MDETR = {
    "info": [],
    "images": [
        {"id": 0, "original_id": 581857, "file_name": "a.jpg", "caption": "the dog", "height": 16, "width": 16},
        {"id": 1, "original_id": 581857, "file_name": "a.jpg", "caption": "the mat", "height": 16, "width": 16},
        {"id": 2, "original_id": 9, "file_name": "b.jpg", "caption": "no box", "height": 16, "width": 16},
    ],
    "annotations": [
        {"image_id": 1, "bbox": [0, 8, 16, 8], "area": 128},
        {"image_id": 0, "bbox": [1, 2, 3.5, 4]},
        {"image_id": 77, "bbox": [1, 2, 3.5, 4]},
    ],
    "categories": [],
}
REFERENCES = [
    {
        "ref_id": 3,
        "ann_id": 50,
        "image_id": 581857,
        "split": "val",
        "file_name": "COCO_581857_16.jpg",
        "category_id": 18,
    }
    | {"sentences": [{"sent_id": 40, "sent": "the dog", "raw": "The dog!"}, {"sent_id": 41, "sent": "dog left"}]},
    {
        "ref_id": 4,
        "ann_id": 51,
        "image_id": 581857,
        "split": "testA",
        "sentences": [{"sent_id": 42, "sent": "the mat"}],
    },
    {"ref_id": 5, "ann_id": 99, "image_id": 9, "split": "val", "sentences": [{"sent_id": 43, "sent": "nowhere"}]},
    {"ref_id": 6, "ann_id": 50, "image_id": 581857, "split": "val", "sentences": []},
]
INSTANCES = {
    "images": [{"id": 581857, "file_name": "a.jpg", "height": 16, "width": 16}, {"id": 9, "file_name": "b.jpg"}],
    "annotations": [
        {"id": 50, "bbox": [1, 2, 3.5, 4], "image_id": 581857},
        {"id": 51, "bbox": [0, 8, 16, 8], "image_id": 581857},
    ],
}
DETS = {"581857": [[1, 2, 3, 4], [0, 0, 9, 9, 0.5]], "4": [[0, 0, 1, 1]]}
DETECTIONS = [
    {"image_id": 581857, "box": [1, 2, 3, 4], "score": 0.9},
    {"image_id": 581857, "bbox": [0, 0, 9, 9]},
    {"image_id": 4, "box": [0, 0, 1, 1]},
    "no detection",
]


@pytest.mark.parametrize("proposals", [DETS, DETECTIONS])
def test_mdetr(tmp_path, proposals):
    given = "--proposals", str(write_json(tmp_path / "dets.json", proposals))
    samples, skipped = made(tmp_path, "refcoco", write_json(tmp_path / "m.json", MDETR), ["a.jpg", "b.jpg"], *given)
    assert samples == [
        {
            "captions": ["the dog", "the mat"],
            "caption_ids": [0, 1],
            "boxes": [[1, 2, 3.5, 4], [0, 8, 16, 8]],
            "proposals": [[1, 2, 3, 4], [0, 0, 9, 9]],
            "height": 16,
            "width": 16,
            "image": "a.jpg",
            "image_id": 581857,
        }
    ]
    assert skipped == [
        ("image 2", "b.jpg", 'no "box", which others have'),
        ("annotation 2", None, "annotation of no image in the file"),
    ]


@pytest.mark.parametrize(("split", "ids"), [("val", [40, 41]), ("testA", [42]), ("val, testA", [40, 41, 42])])
def test_refer(tmp_path, split, ids):
    files = {"instances": INSTANCES, "proposals": DETS}
    given = [part for name, value in files.items() for part in (f"--{name}", str(write_json(tmp_path / name, value)))]
    references = write_json(tmp_path / "refs.json", REFERENCES)
    samples, skipped = made(tmp_path, "refcoco", references, ["a.jpg", "b.jpg"], *given, "--split", split)
    (sample,) = samples
    boxes = {40: [1, 2, 3.5, 4], 41: [1, 2, 3.5, 4], 42: [0, 8, 16, 8]}
    assert sample["caption_ids"] == ids and sample["boxes"] == [boxes[number] for number in ids]
    texts = {40: "the dog", 41: "dog left", 42: "the mat"}
    assert sample["captions"] == [texts[number] for number in ids]
    assert sample["image_id"] == 581857 and sample["proposals"] == [[1, 2, 3, 4], [0, 0, 9, 9]]
    causes = ['no annotation with this "ann_id" in the instances', 'no "sentences"']
    assert [cause for _, _, cause in skipped] == (causes if "val" in split else [])


def test_images_may_be_named_by_an_id(tmp_path):
    rows = [{"image_id": 7, "sent": "a dog", "bbox": [0, 0, 4, 4]}]
    found = read_rows("refcoco", write_lines(tmp_path / "x", rows), image_name="COCO_{:03d}.jpg")
    assert [(row.image, row.sample["image_id"]) for row in found] == [("COCO_007.jpg", 7)]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (REFERENCES, {"split": "val"}, r"^instances: none given; the boxes of .* are in its instances\.json$"),
        (REFERENCES, {}, r"^split: none given, but .* has several; give some of val, testA$"),
        (REFERENCES, {"split": "test"}, r"^split: 'test' is not in .*; accepted: val, testA$"),
        (MDETR, {"split": "val"}, r"^split: 'val' is not in .*; it has no splits, so give none$"),
        ([LINES[0]], {"split": "val"}, r"^split: 'val' is not in .*; it has no splits, so give none$"),
        ([LINES[0]], {"instances": "x"}, r"^instances: x means nothing to .*; it is for refer's list of references"),
        (MDETR, {"image_name": "same.jpg"}, r"^image_name: 'same\.jpg' gives no name per image"),
        (
            MDETR,
            {"proposals": {"a": 1}},
            r"^proposals: .* holds no boxes; give \{image id: \[\[x, y, width, height\], ",
        ),
        (MDETR, {"proposals": [{"image_id": 1, "box": "x"}]}, r"^proposals: .* holds no boxes"),
        (REFERENCES, {"split": "val", "instances": {"a": 1}}, r"^instances: .* has no lists \"images\" and \"annotat"),
        (
            {"images": [], "annotations": []},
            {},
            r"^annotations: .* holds no expressions with boxes; is it --from coco\?$",
        ),
        ({"data": []}, {}, r"^annotations: .* holds no expressions with boxes; is it --from vqa\?$"),
    ],
)
def test_what_is_refused(tmp_path, content, options, message):
    for name, value in options.items():
        if name in ("instances", "proposals"):
            options = options | {name: Path(value) if value == "x" else write_json(tmp_path / name, value)}
    with pytest.raises(InputError, match=message) as refused:
        list(read_rows("refcoco", write_json(tmp_path / "file", content), **options))
    assert "\n" not in str(refused.value)


def test_pickles_are_not_read(tmp_path):
    path = tmp_path / "refs(unc).p"
    path.write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(InputError, match=r"^annotations: .*refs\(unc\)\.p is a pickle, which could run code"):
        read_rows("refcoco", path)


def test_proposals_are_no_business_of_others(tmp_path):
    path = write_json(tmp_path / "x", [{"image": "a.jpg", "caption": "a"}])
    with pytest.raises(InputError, match=r"^proposals: .* means nothing to --from json; it is for refcoco alone$"):
        read_rows("json", path, proposals=path)


def test_the_pictures_of_the_demo_have_the_boxes_of_their_shapes(tmp_path):
    """Everything of a shape's colour lies in its box, which it touches on all sides."""
    for index in range(30):
        scene = draw_scene(0, "val", index)
        if len({thing.colour for thing in scene.objects}) < 2 and len(scene.objects) > 1:
            continue
        pixels = np.asarray(render(scene, 240)).astype(int)
        for thing in scene.objects:
            rows, columns = np.nonzero(np.abs(pixels - COLOURS[thing.colour]).sum(axis=2) < 30)
            x, y, w, h = box_of(thing, 240)
            assert x - 1 <= columns.min() <= x + 4 and y - 1 <= rows.min() <= y + 4
            assert x + w - 5 <= columns.max() <= x + w and y + h - 5 <= rows.max() <= y + h
        for thing, phrase in phrases(scene):
            words = phrase.split()
            fits = [one for one in scene.objects if set(words) <= {one.size, one.colour, one.shape}]
            assert fits == [thing] and thing.shape in words
    make_demo_grounding(tmp_path / "scenes", train=4, val=3)
    found = load_grounding_set(str(tmp_path / "scenes/val/*.tar"), lambda text: True, max_words=8, max_pixels=10**6)
    assert len(found.images) * 2 >= 3 and all(one.box in one.proposals for one in found.expressions)
    with pytest.raises(InputError, match=r"^out: .* is there already"):
        make_demo_grounding(tmp_path / "scenes")
