"""What the JSON of a sample asks, in VQA, and its answers as tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.captions import MAX_CAPTION_CHARACTERS, clean_caption, encodable, spelt_out
from tcl.data.texts.sample_texts import json_of
from tcl.data.texts.tokenize import tokenize

NO_QUESTION = "missing question"
ANSWERS_NOT_TEXT = "answers are not a list of texts"
MANY_ANSWERS = "more than 1,000 answers"
ODD_ID = "question_id is no number or text"

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
