"""Annotation files of every structure that `tcl shards` reads."""

import json
import random
from pathlib import Path

from data_files import noise

from tcl.annotations.make_shards import make_shards
from tcl.annotations.read_rows import read_rows
from tests.fuzz.mutate import change_bytes, change_value

QUESTION = {"question_id": 1, "image_id": 1, "question": "a dog"}
GOOD = {
    "jsonl": [{"image": "0.jpg", "caption": "a dog"}, {"image": "1.jpg", "captions": ["a", "b"]}],
    "json": [{"image": "0.jpg", "caption": ["a dog", "b"]}, {"image": "1.jpg", "caption": "b"}],
    "coco": {
        "images": [{"id": 1, "file_name": "0.jpg"}, {"id": 2, "file_name": "1.jpg"}],
        "annotations": [{"image_id": 1, "id": 5, "caption": "a"}, {"image_id": 2, "id": 6, "caption": "b"}],
    },
    "karpathy": {
        "images": [
            {
                "filename": "0.jpg",
                "split": "train",
                "imgid": 0,
                "sentids": [0],
                "sentences": [{"raw": "a", "sentid": 0}],
            }
        ]
    },
    "vqa": [{"image": "0.jpg", "question": "a dog", "answers": ["dog"], "question_id": 4}],
    "vqa_v2": {"questions": [QUESTION]},
    "vg_qa": [{"id": 1, "qas": [{"qa_id": 1, "image_id": 1, "question": "a dog", "answer": "yes"}]}],
}
ANSWERS = {
    "annotations": [{**QUESTION, "answers": [{"answer": "dog", "answer_id": 1}], "multiple_choice_answer": "dog"}]
}
LINES = ("jsonl", "vqa")


def prepare(folder: Path) -> None:
    """The images that the rows name."""
    for i in range(2):
        noise(i).save(folder / f"{i}.jpg")


def make(good: Path, folder: Path, rng: random.Random) -> str:
    """STRUCTURE.json, changed."""
    structure = rng.choice(list(GOOD))
    value, said = change_value(GOOD[structure], rng)
    answers = ANSWERS
    if structure == "vqa_v2" and rng.random() < 0.5:
        answers, said = change_value(ANSWERS, rng)
        value = GOOD[structure]
    text = json.dumps(value)
    if structure in LINES and isinstance(value, list):
        text = "\n".join(json.dumps(row) for row in value)
    content = text.encode("utf-8-sig" if rng.random() < 0.1 else "utf-8")
    if rng.random() < 0.3:
        content, changed = change_bytes(content, rng)
        said += "; " + changed
    (folder / f"{structure}.json").write_bytes(content)
    (folder / "answers.txt").write_text(json.dumps(answers))
    for i in range(2):
        (folder / f"{i}.jpg").write_bytes((good / f"{i}.jpg").read_bytes())
    return f"{structure}: {said}"


def check(folder: Path) -> None:
    """Every row becomes a sample or is reported."""
    (path,) = folder.glob("*.json")
    options = {
        "karpathy": {"split": "train"},
        "vqa_v2": {"answers": folder / "answers.txt", "image_name": "0.jpg"},
        "vg_qa": {"image_name": "0.jpg"},
    }
    given = options.get(path.stem, {})
    rows = list(read_rows(path.stem, path, **given))
    if sum(path.read_bytes()) % 8 == 0:  # it starts processes, which takes longer than all else
        report = make_shards(rows, Path("out"), images=folder, workers=1)
        assert report.samples + len(report.skipped) == len(rows), "lost"
        json.loads(Path("out/report.json").read_text())
