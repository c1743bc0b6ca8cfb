"""Annotation files of every structure that `tcl shards` reads, and the images that they name."""

import json
import os
from pathlib import Path
from random import Random

from tcl.annotations.pack_row import Packed, pack_row
from tcl.annotations.read_rows import STRUCTURES, read_rows
from tests.data_files import JPEG
from tests.fuzz.case import Wrong
from tests.fuzz.mutate import NAMES, damage, spoil

ASKED = {"image": "a.jpg", "question": "what?", "answers": ["red", "blue"], "question_id": 7}
KARPATHY = {"filename": "a.jpg", "split": "train", "cocoid": 3, "sentences": [{"raw": "a dog"}, {"raw": "a cat"}]}
QUESTIONS = {"questions": [{"question_id": 1, "image_id": 9, "question": "what?"}]}
REFERRED = {"image": "a.jpg", "text": "the dog", "box": [1, 2, 3.5, 4], "ref_id": 1, "height": 16, "width": 16}
REFERRED |= {"proposals": [[1, 2, 3.5, 4], [0, 0, 16, 16]], "split": "val", "image_id": 4}
SNLI_VE = {"Flickr30K_ID": 9, "sentence2": "a cat", "gold_label": "entailment"}
TIMED = {"text": "a dog", "start": 0.5, "end": 2}
GOOD = {
    "jsonl": [{"image": "a.jpg", "captions": ["a dog", "a cat"]}, {"image": "b/c.jpg", "caption": "a mat"}],
    "json": [{"image": "a.jpg", "caption": "a dog"}, {"image": "b/c.jpg", "caption": ["a mat", "red"]}],
    "coco": {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b/c.jpg"}],
        "annotations": [{"image_id": 1, "caption": "a dog"}, {"image_id": 2, "caption": "a mat"}],
    },
    "karpathy": {"images": [KARPATHY, KARPATHY | {"cocoid": 4, "filename": "c.jpg", "filepath": "b"}]},
    "vqa": [ASKED, ASKED | {"question_id": "x", "image": "b/c.jpg", "question_type": "what"}],
    "vqa_v2": QUESTIONS,
    "refcoco": [REFERRED, REFERRED | {"ref_id": 2, "text": "a cat", "split": "val"}],
    "snli_ve": [{"image": "a.jpg", "hypothesis": "a dog", "label": "neutral"}, SNLI_VE],
    "nlvr2": [{"images": ["a.jpg", "b/c.jpg"], "sentence": "a dog", "label": "True", "identifier": "dev-1-0-0"}],
    "clips": [
        {"image": "a.jpg", "captions": [TIMED, "a cat"]},
        {"image": "b/c.jpg", "start": 0, "end": 2, "label": "x"},
    ],
    "vg_qa": [{"id": 9, "qas": [{"qa_id": 5, "image_id": 9, "question": "what?", "answer": "red"}]}],
}
"""A file that is used as it is, by structure."""
OPTIONS = {"karpathy": {"split": "train"}}
AS_LINES = ("jsonl", "vqa", "refcoco", "snli_ve", "nlvr2", "clips")


def prepare(folder: Path) -> dict[str, object]:
    if set(STRUCTURES) - set(GOOD) - {"folder", "csv", "tsv"}:
        raise ValueError(f"no good file of {set(STRUCTURES) - set(GOOD)}")
    return GOOD


def mutate(good: dict[str, object], rng: Random, folder: Path) -> None:
    """NAME.annotations, NAME being the structure, and the folder images/ in `folder`."""
    structure = rng.choice(list(STRUCTURES))
    (folder / "images" / "b").mkdir(parents=True)
    (folder / "secret.jpg").write_bytes(JPEG)
    for place in ("a.jpg", "b/c.jpg", "9.jpg"):
        _write_image(folder / "images" / place, rng)
    for i in range(rng.randint(0, 2)):
        caption = rng.choice(NAMES).encode("utf-8", "surrogatepass")
        (folder / "images" / f"{rng.choice('ab')}{i}.txt").write_bytes(caption)
    if structure in good:
        value = good[structure]
        value = spoil(value, rng) if rng.random() < 0.7 else value
        rows = value if structure in AS_LINES and isinstance(value, list) else [value]
        content = "\n".join(map(json.dumps, rows)).encode()
    else:
        content = "\n".join(f'{name},"{rng.choice(NAMES)}"' for name in ("image", "a.jpg", "b/c.jpg"))
        content = content.replace("image,", "image,caption,", 1).encode("utf-8", "surrogatepass")
    content = rng.choice((b"", b"", b"", b"\xef\xbb\xbf")) + content
    (folder / f"{structure}.annotations").write_bytes(damage(content, rng) if rng.random() < 0.4 else content)


def read(good: dict[str, object], folder: Path) -> None:
    (path,) = folder.glob("*.annotations")
    images = folder / "images"
    annotations = None if path.stem == "folder" else path
    for row in read_rows(path.stem, annotations, images=images, **OPTIONS.get(path.stem, {})):
        packed = pack_row(row, images, None, 90, 1_000_000, 100_000)
        if isinstance(packed, Packed):
            json.dumps(row.sample).encode()
            _refuse_foreign(images, row.image)
        elif not packed.cause or len(packed.cause) > 300:
            raise Wrong(f"skipped for {packed.cause!r}")


def _refuse_foreign(images: Path, name: str) -> None:
    if not (images / name).resolve().is_relative_to(images.resolve()):
        raise Wrong(f"{name!r} is an image outside the folder")


def _write_image(path: Path, rng: Random) -> None:
    how = rng.random()
    if how < 0.7:
        path.write_bytes(JPEG)
    elif how < 0.8:
        path.symlink_to(rng.choice(("../secret.jpg", "../../secret.jpg", "/dev/zero", "/dev/full", path.name)))
    elif how < 0.85:
        os.mkfifo(path)
    elif how < 0.9:
        path.mkdir()
    else:
        path.write_bytes(damage(JPEG, rng))
