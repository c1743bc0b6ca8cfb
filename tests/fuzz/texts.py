"""The text and JSON files of samples: captions, questions, answers, ids."""

import json
from pathlib import Path
from random import Random

from tcl.config.data import DataConfig
from tcl.data.feed.pair_reader import PairReader
from tcl.data.feed.question_reader import QuestionReader
from tcl.data.images.pixel_views import PixelViews
from tcl.data.shards.bad_sample import BadSample
from tests.data_files import JPEG, NO_AUGMENT, TOKENIZER
from tests.fuzz.case import Wrong
from tests.fuzz.mutate import NAMES, damage, spoil

DATA = DataConfig(augment=NO_AUGMENT)


def prepare(folder: Path) -> list[dict[str, object]]:
    """By extension, what is text, or stands for JSON."""
    asked = {"question": "what colour is the mat?", "answers": ["red"] * 3 + ["blue"], "question_id": 7}
    return [
        {"txt": "a photo of a dog\n\na red mat\r\n"},
        {"json": {"captions": ["a dog", "a red mat", ""], "image_id": 3, "caption_ids": ["a", "b", "c"]}},
        {"json": {"caption": "a dog", "image_id": "x"}, "txt": "a cat"},
        {"json": asked | {"question_type": "what colour", "answer_type": "other"}},
    ]


def mutate(good: list[dict[str, object]], rng: Random, folder: Path) -> None:
    """sample.json and sample.txt, or one of them, in `folder`."""
    for extension, value in rng.choice(good).items():
        if extension == "txt":
            value = rng.choice((value, rng.choice(NAMES), value * 20_000))
            content = value.encode("utf-8", "surrogatepass")
        else:
            content = json.dumps(spoil(value, rng) if rng.random() < 0.8 else value).encode()
        (folder / f"sample.{extension}").write_bytes(damage(content, rng) if rng.random() < 0.5 else content)


def read(good: list[dict[str, object]], folder: Path) -> None:
    fields = {path.suffix[1:]: path.read_bytes() for path in folder.glob("sample.*")} | {"jpg": JPEG}
    images = PixelViews(DATA, 16)
    readers = (PairReader(DATA, images, TOKENIZER, mlm_probability=0.5), QuestionReader(DATA, images, TOKENIZER, 10))
    for reader in (*readers, PairReader(DATA, images, TOKENIZER, mlm_probability=0.5, named_ids=True)):
        try:
            example = reader.read(fields, "0.tar/sample", Random(0))
        except BadSample as cause:
            if len(str(cause)) > 200:
                raise Wrong(f"a cause to count by: {str(cause)[:300]!r}") from cause
            continue
        batch = reader.batch([example], seed=0)
        if not batch.inputs["text"].mask[:, 1:].any() or batch.inputs["text"].ids.shape[1] > DATA.max_tokens:
            raise Wrong(f"tokens {batch.inputs['text'].ids.tolist()}")
