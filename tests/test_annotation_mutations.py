"""Annotations with a wrong value in every place: each row is read or named with a cause, and advice works."""

import copy
import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from data_files import JPEG

from tcl.annotations import json_file
from tcl.annotations.make_shards import make_shards
from tcl.annotations.read_rows import STRUCTURES, read_rows
from tcl.errors import InputError

CAPTIONS = [{"image": "a.jpg", "captions": ["one", "two"]}, {"image": "b.jpg", "caption": "three"}]
ASKED = {"question_id": 1, "question": "what colour?", "image": "a.jpg", "answers": ["red", "red", "pink"]}
ALBEF = [
    {"question_id": 1, "question": "what?", "image": "a.jpg", "dataset": "vqa", "answer": ["red", "pink"]},
    {"question": "which?", "image": "b.jpg", "dataset": "vg", "answer": "green"},
]
VIZWIZ = [
    {"image": "a.jpg", "question": "what?", "answerable": 1, "answer_type": "other"}
    | {"answers": [{"answer": "red", "answer_confidence": "yes"}, {"answer": "pink", "answer_confidence": "no"}]}
]
TEXTVQA = {"dataset_type": "val", "data": [{"question": "what?", "image_id": "a", "question_id": 3, "answers": ["x"]}]}
GQA = {"020": {"question": "what?", "answer": "red", "imageId": "a", "types": {"semantic": "attr"}}}
COCO = {
    "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
    "annotations": [{"image_id": 1, "caption": "one"}, {"image_id": 2, "caption": "two"}],
}
KARPATHY = {
    "images": [
        {"split": "train", "filename": "a.jpg", "cocoid": 1, "sentences": [{"raw": "one"}, {"raw": "two"}]},
        {"split": "train", "filename": "b.jpg", "filepath": "x", "imgid": 2, "sentences": [{"raw": "three"}]},
    ]
}
VQA_V2 = {"questions": [{"question_id": 1, "image_id": 7, "question": "what?"}]}
REFERRED = {"ref_id": 1, "image": "a.jpg", "text": "the dog", "box": [1, 2, 3.5, 4], "height": 16, "width": 16}
REFERRED |= {"image_id": 7, "proposals": [[1, 2, 3.5, 4]], "split": "val"}
MDETR = {
    "images": [{"id": 1, "original_id": 7, "file_name": "a.jpg", "caption": "the dog", "height": 16, "width": 16}],
    "annotations": [{"image_id": 1, "bbox": [1, 2, 3.5, 4]}],
}
SNLI_VE = [
    {"Flickr30K_ID": "12", "sentence1": "a", "sentence2": "two dogs", "gold_label": "neutral", "pairID": "12.jpg#0r1n"},
    {"image": "a.jpg", "hypothesis": "a dog", "label": "entailment"},
]
ALBEF_VE = [{"image": "12", "sentence": "two dogs", "label": "contradiction"}]
NLVR2 = [
    {"identifier": "train-1-0-2", "directory": 65, "sentence": "two dogs", "label": "True", "left_url": "http://x"},
    {"identifier": "dev-1-0-0", "images": ["a.png", "b.png"], "sentence": "a dog", "label": "False", "group": "dev-1"},
]
ALBEF_NLVR = [{"images": ["a.png", "b.png"], "sentence": "a dog", "label": "True"}]
GENOME = [{"id": 1, "qas": [{"qa_id": 1, "question": "what?", "answer": "red", "image_id": 1}]}]


def listed(content: object, *names: str) -> int | None:
    """How long the list at `names` is; None where there is none."""
    for name in names:
        content = content.get(name) if isinstance(content, dict) else None
    return len(content) if isinstance(content, list) else None


FORMS = {
    "jsonl": ("jsonl", CAPTIONS, listed),
    "json": ("json", CAPTIONS, listed),
    "coco": ("coco", COCO, lambda content: listed(content, "images")),
    "karpathy": ("karpathy", KARPATHY, lambda content: None),
    "vqa lines": ("vqa", [ASKED, ASKED | {"question_id": "2"}], listed),
    "ALBEF": ("vqa", ALBEF, listed),
    "VizWiz": ("vqa", VIZWIZ, listed),
    "TextVQA": ("vqa", TEXTVQA, lambda content: listed(content, "data")),
    "GQA": ("vqa", GQA, lambda content: len(content) if isinstance(content, dict) else None),
    "RefCOCO lines": ("refcoco", [REFERRED, REFERRED | {"ref_id": 2, "image": "b.jpg"}], lambda content: None),
    "MDETR": ("refcoco", MDETR, lambda content: None),
    "vqa_v2": ("vqa_v2", VQA_V2, lambda content: listed(content, "questions")),
    "vg_qa": ("vg_qa", GENOME, lambda content: None),
    "SNLI-VE lines": ("snli_ve", SNLI_VE, listed),
    "ALBEF entailment": ("snli_ve", ALBEF_VE, listed),
    "NLVR2 lines": ("nlvr2", NLVR2, listed),
    "ALBEF NLVR2": ("nlvr2", ALBEF_NLVR, listed),
}
"""Structure, a good file, and how many rows a file has; None: it depends on the values."""

DEEP = json.loads("[" * 900 + "]" * 900)
ODD = (None, True, 0, -7, 1.5, 10**400, float("nan"), float("inf"), "", " ", "\ud800", "\0", "../x", "pipe:touch x")
ODD = (*ODD, "x" * 2_000_000, [], [None], [[]], ["y", None], {}, {"a": 1}, {"answer": None}, DEEP)


def mutations(content: object) -> Iterator[object]:
    """`content` with one of its parts replaced or taken away."""

    def places(value: object, path: tuple) -> Iterator[tuple]:
        yield path
        parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for name, part in parts:
            yield from places(part, (*path, name))

    for path in places(content, ()):
        for odd in ODD:
            yield _changed(content, path, lambda holder, name, odd=odd: holder.__setitem__(name, odd))
        if path:
            yield _changed(content, path, lambda holder, name: holder.__delitem__(name))


def _changed(content: object, path: tuple, change) -> object:
    around = {"top": copy.deepcopy(content)}
    *before, name = ("top", *path)
    holder = around
    for part in before:
        holder = holder[part]
    change(holder, name)
    return around.get("top")


def as_lines(form: str) -> bool:
    """Has it a row per line?"""
    return form == "jsonl" or form.endswith(" lines")


def write(path: Path, content: object, form: str) -> Path:
    lines = content if as_lines(form) and isinstance(content, list) else [content]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def options_of(structure: str) -> dict:
    return {"split": "train"} if structure == "karpathy" else {}


@pytest.mark.parametrize("form", FORMS)
def test_no_value_anywhere_loses_a_row_or_ends_in_a_traceback(tmp_path, form):
    structure, good, count = FORMS[form]
    good_rows = list(read_rows(structure, write(tmp_path / "good", good, form), **options_of(structure)))
    assert good_rows and all(row.problem is None for row in good_rows)
    read = refused = 0
    for content in mutations(good):
        path = write(tmp_path / "file", content, form)
        try:
            rows = list(read_rows(structure, path, **options_of(structure)))
        except InputError as error:
            assert "\n" not in str(error)
            refused += 1
            continue
        read += 1
        orphans = [row for row in rows if row.where.startswith("annotation ")]
        # A value on a line of its own, with nothing of the form in it, is one row that cannot be used.
        lone = [row.where for row in rows] == ["line 1"] and rows[0].problem is not None
        assert count(content) is None or lone or len(rows) - len(orphans) == count(content), str(content)[:300]
        for row in rows:
            assert row.where
            assert (row.problem is None) == bool(row.sample)
            json.dumps(row.sample, allow_nan=False)
            assert len(json.dumps(row.sample)) <= 2**20
            shown = row.sample.get("images") or [row.sample.get("image")]
            assert row.problem is not None or [row.image, row.right_image][: len(shown)] == shown
    assert read > 20 and refused > 0


@pytest.mark.parametrize("asked_for", sorted(STRUCTURES.keys() - {"folder", "csv", "tsv"}))
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("indent", [None, 1])
def test_advice_for_another_structure_works(tmp_path, asked_for, form, indent):
    structure, good, _ = FORMS[form]
    path = write(tmp_path / "file", good, form)
    if not as_lines(form):
        path.write_text(json.dumps(good, indent=indent))
    try:
        rows = list(read_rows(asked_for, path, **options_of(asked_for)))
    except InputError as error:
        said = str(error).replace("?", "").split()
        advised = [word for before, word in pairwise(said) if before == "--from"]
        if asked_for != structure and not as_lines(form):
            assert structure in advised, str(error)
        return
    # What a structure reads in spite of another name it reads with a cause that says what is missed.
    assert rows and all(row.problem is not None or row.sample for row in rows)


def test_nulls_among_captions_are_dropped_alone(tmp_path):
    def found(structure: str, content: object, **options) -> list[tuple]:
        path = write(tmp_path / "file", content, structure)
        return [(row.sample.get("captions"), row.blank_captions) for row in read_rows(structure, path, **options)]

    row = {"image": "a.jpg", "captions": ["one", None, "two", ""]}
    assert found("jsonl", [row]) == found("json", [row]) == [(["one", "two"], 2)]
    said = [{"image_id": 1, "caption": text} for text in ("one", None, "two")]
    assert found("coco", {"images": COCO["images"][:1], "annotations": [*said, {"image_id": 1}]}) == [
        (["one", "two"], 2)
    ]
    sentences = [{"raw": "one"}, {"tokens": ["x"]}, {"raw": None}, {"raw": "two"}]
    image = KARPATHY["images"][0] | {"sentences": sentences}
    assert found("karpathy", {"images": [image]}, split="train") == [(["one", "two"], 2)]
    (row,) = read_rows("jsonl", write(tmp_path / "file", [{"image": "a.jpg", "captions": [None]}], "jsonl"))
    assert row.problem == "empty caption"


def test_duplicate_coco_ids_are_named(tmp_path):
    images = [*COCO["images"], {"id": 1, "file_name": "c.jpg"}]
    rows = list(read_rows("coco", write(tmp_path / "file", COCO | {"images": images}, "coco")))
    assert [(row.where, row.problem) for row in rows] == [
        ("image 0", None),
        ("image 1", None),
        ("image 2", "duplicate image id"),
    ]


@pytest.mark.parametrize(
    "row, problem",
    [
        ({"text": "x"}, 'no "caption", but "text"; rename it'),
        ({"question": "x"}, 'no "caption", but "question"; use --from vqa'),
        ({"text": "x", "caption": None}, "empty caption"),
        ({}, "empty caption"),
    ],
)
def test_a_row_without_caption_says_what_it_has_instead(tmp_path, row, problem):
    rows = read_rows("json", write(tmp_path / "file", [{"image": "a.jpg"} | row], "json"))
    assert [row.problem for row in rows] == [problem]


def test_public_questions_as_samples(tmp_path):
    def samples(form: str, **options) -> list[dict]:
        structure, content, _ = FORMS[form]
        return [row.sample for row in read_rows(structure, write(tmp_path / "file", content, form), **options)]

    assert samples("ALBEF") == [
        {"question": "what?", "answers": ["red", "pink"], "question_id": 1, "image": "a.jpg"},
        {"question": "which?", "answers": ["green"], "image": "b.jpg"},
    ]
    assert samples("VizWiz") == [
        {"question": "what?", "answers": ["red", "pink"], "image": "a.jpg", "answer_type": "other"}
    ]
    assert samples("TextVQA") == [{"question": "what?", "answers": ["x"], "question_id": 3, "image": "a.jpg"}]
    assert samples("GQA", image_name="gqa/{}.png") == [
        {"question": "what?", "answers": ["red"], "question_id": "020", "image": "gqa/a.png"}
    ]


def test_a_list_without_any_answers_is_a_test_split(tmp_path):
    content = [{"question_id": i, "question": "what?", "image": "a.jpg"} for i in range(2)]
    content[1]["answers"] = []
    rows = list(read_rows("vqa", write(tmp_path / "file", content, "ALBEF")))
    assert [row.sample["answers"] for row in rows] == [[], []]
    rows = list(read_rows("vqa", write(tmp_path / "file", [*content, ASKED | {"question_id": 9}], "ALBEF")))
    assert [row.problem for row in rows] == ["no answers", "no answers", None]


def test_a_byte_order_mark_hides_nothing(tmp_path):
    (tmp_path / "file").write_text("\ufeff" + json.dumps(CAPTIONS), encoding="utf-8")
    with pytest.raises(InputError, match="starts with a list, not with a row; use --from json"):
        read_rows("jsonl", tmp_path / "file")
    assert len(list(read_rows("json", tmp_path / "file"))) == 2
    (tmp_path / "file").write_text("\ufeff" + "".join(json.dumps(row) + "\n" for row in CAPTIONS), encoding="utf-8")
    assert [row.problem for row in read_rows("jsonl", tmp_path / "file")] == [None, None]


def test_long_lines_cost_themselves_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(json_file, "LONGEST_LINE", 500)
    lines = [json.dumps(row) for row in CAPTIONS]
    long = json.dumps({"image": "a.jpg", "caption": "x" * 3_000_000})
    (tmp_path / "file").write_text("\n".join([long, lines[0], long, lines[1], long]))
    rows = list(read_rows("jsonl", tmp_path / "file"))
    assert [(row.where, row.problem) for row in rows if row.problem] == [
        (f"line {number}", "more than 1 MiB of text") for number in (1, 3, 5)
    ]
    assert [row.image for row in rows if row.problem is None] == ["a.jpg", "b.jpg"]


def test_halves_of_surrogate_pairs_stay_as_json(tmp_path):
    content = COCO | {"images": [{"id": "\ud800", "file_name": "a.jpg"}]}
    content["annotations"] = [{"image_id": "\ud800", "caption": "half \udc00"}]
    (tmp_path / "a.jpg").write_bytes(JPEG)
    rows = read_rows("coco", write(tmp_path / "file", content, "coco"))
    made = make_shards(rows, tmp_path / "out", images=tmp_path, workers=1)
    assert made.samples == 1
    stored = (tmp_path / "out" / "000000.tar").read_bytes()
    assert rb'{"captions": ["half \udc00"], "image": "a.jpg", "image_id": "\ud800"}' in stored


@pytest.mark.parametrize(
    "structure, content, message",
    [
        ("jsonl", b"image,caption\na.jpg,x\n", "holds no JSON; is it --from csv or tsv"),
        ("vqa", b"image,caption\na.jpg,x\n", "holds no JSON; is it --from csv or tsv"),
        ("jsonl", json.dumps(CAPTIONS[0]).encode("utf-16"), "is not UTF-8"),
        ("jsonl", b"\x1f\x8b\x08\x00", r"is compressed \(gzip\)"),
        ("json", b"PK\x03\x04" + bytes(20), r"is compressed \(zip\)"),
        ("json", b'{"image": "a"}\n{"image": "b"}', "is not JSON .*; for a row per line use --from jsonl$"),
        ("coco", b'{"question": "a"}\n{"question": "b"}', "is not JSON .*; for a row per line use --from vqa$"),
        ("vqa", b'[{"question": "a"', "is not JSON .*; give a whole vqa file$"),
        ("vqa", b'{"a": 1, "data": [5]}', "is one JSON object, not a row per line; give rows"),
        ("vqa", b'{"annotations": [{"answers": []}]}', "is it --from vqa_v2"),
    ],
)
def test_other_files_are_named_in_one_line(tmp_path, structure, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_rows(structure, tmp_path / "file")
    assert "\n" not in str(error.value)


def test_a_table_may_begin_with_the_letters_of_an_archive(tmp_path):
    (tmp_path / "file").write_text("PK,image,caption\n1,a.jpg,x\n")
    assert [row.image for row in read_rows("csv", tmp_path / "file")] == ["a.jpg"]


@pytest.mark.parametrize("structure", ["jsonl", "json", "csv", "vqa"])
def test_devices_and_pipes_that_nobody_writes_to_end(tmp_path, monkeypatch, structure):
    monkeypatch.setattr(json_file, "PIPE_SECONDS", 0)
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"annotations: .*full is a device, not a file"):
        read_rows(structure, tmp_path / "full")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"annotations: .*pipe is empty"):
        read_rows(structure, tmp_path / "pipe")


def test_a_pipe_is_read_to_its_end():
    reading, writing = os.pipe()
    with open(writing, "w") as pipe:
        pipe.write("".join(json.dumps(row) + "\n" for row in CAPTIONS))
    assert [row.image for row in read_rows("jsonl", Path(f"/dev/fd/{reading}"))] == ["a.jpg", "b.jpg"]
    os.close(reading)


def test_a_file_too_large_for_one_value_is_not_read(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        file.write(b"[")
        file.truncate(2**33)
    for structure in ("json", "coco", "vqa"):
        with pytest.raises(InputError, match=r"is larger than 4 GiB; write a row per line|is not UTF-8"):
            read_rows(structure, tmp_path / "file")
