"""Questions to answer in evaluation, and the images that they are about."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field

from tcl.config.data import DataConfig
from tcl.data.images.decode_image import decode_image, image_bytes
from tcl.data.sets.add_samples import add_samples, commonest
from tcl.data.shards.bad_sample import BadSample
from tcl.data.shards.read_shard import RawSample
from tcl.data.texts.question import Asked, question_of
from tcl.errors import InputError

SAME_QUESTION = "question_id of another question"


@dataclass
class QuestionSet:
    """Evaluation data: questions, and the images that they are about, each once."""

    images: list[bytes] = field(default_factory=list)
    """[I], encoded; each is known to decode with tcl.data.images.decode_image.decode_image."""
    questions: list[Asked] = field(default_factory=list)
    image_of_question: list[int] = field(default_factory=list)
    bad: Counter[str] = field(default_factory=Counter)
    """Samples (and stray tar entries) that could not be used, by cause."""


def load_question_set(
    pattern: str,
    *,
    max_questions: int | None = None,
    max_words: int,
    max_pixels: int,
    max_sample_bytes: int = DataConfig.max_sample_bytes,
) -> QuestionSet:
    """The first max_questions (>= 1; default: all) usable questions of the shards that `pattern` names.

    Questions are cut to max_words (>= 1); images of more than max_pixels, samples of more than max_sample_bytes and a
    question_id that was there before are skipped. InputError: no such shards, or no usable question in them.
    """
    found, index = QuestionSet(), _Index()
    add_samples(
        pattern,
        lambda sample, _: _add(found, index, sample, max_words, max_pixels),
        found.bad,
        is_full=lambda: len(found.questions) == max_questions,
        max_sample_bytes=max_sample_bytes,
    )
    if not found.questions:
        raise InputError(f"data.val: {pattern!r} holds no usable question: {commonest(found.bad)}")
    return found


@dataclass
class _Index:
    images: dict[bytes, int] = field(default_factory=dict)
    """Index by digest."""
    ids: set[int | str] = field(default_factory=set)


def _add(found: QuestionSet, index: _Index, sample: RawSample, max_words: int, max_pixels: int) -> None:
    """BadSample: the question was not added."""
    asked = question_of(sample.usable(), sample.key, max_words)
    if asked.question_id in index.ids:
        raise BadSample(SAME_QUESTION)
    content = image_bytes(sample.fields)
    digest = hashlib.blake2b(content, digest_size=16).digest()
    if digest not in index.images:
        decode_image(content, max_pixels=max_pixels)
        index.images[digest] = len(found.images)
        found.images.append(content)
    index.ids.add(asked.question_id)
    found.questions.append(asked)
    found.image_of_question.append(index.images[digest])
