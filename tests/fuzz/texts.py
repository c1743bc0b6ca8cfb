"""What lies beside an image: captions, questions and answers, as text and as JSON; and files of texts."""

import json
import random
from pathlib import Path

from data_files import JPEG, NO_AUGMENT, TOKENIZER, config

from tcl.data.augment import Augment
from tcl.data.decode import BadSample
from tcl.data.pair_reader import PairReader
from tcl.data.questions import QuestionReader
from tcl.data.text_stream import texts_of_file
from tests.fuzz.mutate import TEXTS, change_bytes, change_value

GOOD = {
    "image_id": 7,
    "caption": "a red dog",
    "captions": ["a dog", "a cat on a mat"],
    "caption_ids": [1, 2],
    "question": "a dog",
    "question_id": 3,
    "answers": ["dog", "cat"],
    "question_type": "what",
    "answer_type": "other",
}


def prepare(folder: Path) -> None:
    """Nothing: a text is made where it is changed."""


def make(good: Path, folder: Path, rng: random.Random) -> str:
    """x.json or x.txt."""
    if rng.random() < 0.7:
        value, said = GOOD, ""
        for _ in range(rng.randint(1, 3)):
            if isinstance(value, dict | list):
                value, one = change_value(value, rng)
                said += one + "; "
        content, name = json.dumps(value).encode(), "x.json"
    else:
        parts = [rng.choice([*TEXTS, "a dog", "red", "\n", "\u2028", "\x85", "é"]) for _ in range(rng.randint(0, 20))]
        content, said, name = "".join(parts).encode("utf-8", "surrogatepass"), "text", "x.txt"
        if rng.random() < 0.05:
            content, said = rng.choice([b"dog ", b"x", "\u0300".encode()]) * 3_000_000, "megabytes"
    if rng.random() < 0.3:
        content, changed = change_bytes(content, rng)
        said += changed
    (folder / name).write_bytes(content)
    return said


def check(folder: Path) -> None:
    """Read beside a good image as pairs and as questions, and line by line."""
    (path,) = folder.iterdir()
    data = config("x")
    readers = [
        PairReader(data, Augment(NO_AUGMENT, 16), TOKENIZER, mlm_probability=0.5, with_ids=True),
        QuestionReader(data, Augment(NO_AUGMENT, 16), TOKENIZER, max_answer_tokens=5),
    ]
    for reader in readers:
        try:
            fields = {"jpg": JPEG, path.suffix[1:]: path.read_bytes()}
            reader.batch([reader.read(fields, "key", random.Random(0))], 0)
        except BadSample:
            continue
    list(texts_of_file(path, 30))
