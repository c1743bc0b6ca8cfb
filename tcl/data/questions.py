"""Questions about images: what the samples of shards become in VQA, in training and in evaluation."""

import hashlib
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tcl.config import DataConfig
from tcl.data.augment import Augment, View
from tcl.data.bad_sample import BadSample, reading
from tcl.data.batch import QuestionBatch
from tcl.data.captions import MAX_CAPTION_CHARACTERS, clean_caption, encodable, spelt_out
from tcl.data.decode import decode_image, image_bytes, json_of
from tcl.data.read_shard import RawSample, read_samples
from tcl.data.shards import list_shards
from tcl.data.text import tokenize
from tcl.errors import InputError

NO_QUESTION = "missing question"
NO_ANSWERS = "missing answers"
ANSWERS_NOT_TEXT = "answers are not a list of texts"
MANY_ANSWERS = "more than 1,000 answers"
ODD_ID = "question_id is no number or text"
SAME_QUESTION = "question_id of another question"

MAX_ANSWERS = 1_000
"""Of one question; people give ten."""


@dataclass(frozen=True)
class Asked:
    """What a sample's JSON asks."""

    question_id: int | str
    question: str
    """Cleaned as captions are."""
    answers: tuple[str, ...]
    """As people gave them, one per annotator, blank ones too; may be empty."""
    question_type: str | None
    answer_type: str | None


def question_of(fields: dict[str, bytes], key: str, max_words: int) -> Asked:
    """The question in a sample's JSON; without a "question_id", `key` is its id. BadSample: none, or odd answers."""
    said = json_of(fields)
    text = said.get("question")
    question = clean_caption(text, max_words) if isinstance(text, str) else ""
    if not question:
        raise BadSample(NO_QUESTION)
    answers = said.get("answers") or []
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise BadSample(ANSWERS_NOT_TEXT)
    if len(answers) > MAX_ANSWERS:
        raise BadSample(MANY_ANSWERS)
    question_id = said.get("question_id")
    if not isinstance(question_id, int | str | None):
        raise BadSample(ODD_ID)
    return Asked(
        key if question_id is None else spelt_out(question_id) if isinstance(question_id, str) else question_id,
        question,
        tuple(encodable(answer)[:MAX_CAPTION_CHARACTERS] for answer in answers),
        _type_of(said, "question_type"),
        _type_of(said, "answer_type"),
    )


def _type_of(said: dict, name: str) -> str | None:
    return spelt_out(str(said[name])) if isinstance(said.get(name), str | int | float) else None


def tokenize_answers(
    tokenizer: PreTrainedTokenizerBase, answers: Sequence[str], max_tokens: int
) -> tuple[Tensor, Tensor]:
    """[CLS], at most max_tokens (>= 1) tokens, [SEP]: ids [A, T] int64, padded, and their lengths [A] int64."""
    # Some data join the words of an answer by underscores, which to a tokenizer is one more token or an unknown one.
    texts = [answer.lower().replace("_", " ") for answer in answers]
    input_ids, mask = tokenize(tokenizer, texts, max_tokens + 1)
    lengths = mask.sum(dim=1)
    padding = torch.full((len(answers), 1), tokenizer.pad_token_id)
    ids = torch.cat([input_ids, padding], dim=1)
    ids[torch.arange(len(answers)), lengths] = tokenizer.sep_token_id
    return ids, lengths + 1


@dataclass
class Example:
    """A question and a view of its image."""

    image: View
    asked: Asked
    key: str


class QuestionReader:
    """Decodes questions with one augmented view of their image, and makes batches of them.

    max_answer_tokens (>= 1): longer answers are cut.
    """

    def __init__(self, data: DataConfig, augment: Augment, tokenizer: PreTrainedTokenizerBase, max_answer_tokens: int):
        self.data = data
        self.augment = augment
        self.tokenizer = tokenizer
        self.max_answer_tokens = max_answer_tokens

    def read(self, fields: dict[str, bytes], key: str, rng: random.Random) -> Example:
        """A sample's bytes by extension -> an example; `rng` draws the view. BadSample: unusable."""
        asked = question_of(fields, key, self.data.max_words)
        if not any(answer.strip() for answer in asked.answers):
            raise BadSample(NO_ANSWERS)
        content = image_bytes(fields)
        pixels = decode_image(content, max_pixels=self.data.max_pixels, min_side=self.augment.min_side)
        return Example(self.augment(pixels, rng), asked, key)

    def batch(self, examples: list[Example], seed: int) -> QuestionBatch:
        """A batch of `examples`; there is nothing random in it."""
        input_ids, attention_mask = tokenize(
            self.tokenizer, [example.asked.question for example in examples], self.data.max_tokens
        )
        # Annotators whose answers differ in case alone agree.
        shares = [Counter(a.lower() for a in example.asked.answers if a.strip()) for example in examples]
        answers = [
            (i, answer, count / counts.total()) for i, counts in enumerate(shares) for answer, count in counts.items()
        ]
        index, texts, weights = zip(*answers, strict=True)
        answer_ids, lengths = tokenize_answers(self.tokenizer, texts, self.max_answer_tokens)
        places = torch.arange(answer_ids.shape[1])
        positions = (places < lengths[:, None] - 1).flatten().nonzero().flatten()
        return QuestionBatch(
            image=torch.stack([example.image.pixels for example in examples]),
            input_ids=input_ids,
            attention_mask=attention_mask,
            answer_ids=answer_ids,
            answer_weights=torch.tensor(weights),
            question_index=torch.tensor(index),
            target_positions=positions,
            target_ids=answer_ids.flatten()[positions + 1],
            keys=[example.key for example in examples],
            image_steps=[example.image.steps for example in examples],
        )


@dataclass
class QuestionSet:
    """Evaluation data: questions, and the images that they are about, each once."""

    images: list[bytes] = field(default_factory=list)
    """[I], encoded; each is known to decode with tcl.data.decode.decode_image."""
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
    for url in list_shards(pattern):
        for sample in read_samples(url, max_sample_bytes=max_sample_bytes):
            if len(found.questions) == max_questions:
                return found
            found.bad.update(cause for cause, _ in sample.notices)
            try:
                with reading():
                    _add(found, index, sample, max_words, max_pixels)
            except BadSample as problem:
                found.bad[str(problem)] += 1
    if not found.questions:
        causes = ", ".join(f"{cause} {count:,}" for cause, count in found.bad.most_common(5)) or "the shards are empty"
        raise InputError(f"data.val: {pattern!r} holds no usable question: {causes}")
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
