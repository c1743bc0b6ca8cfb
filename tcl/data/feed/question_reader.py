"""Questions with an image: what the samples of shards become in training on VQA."""

import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tcl.config.data import DataConfig
from tcl.data.batch import Batch
from tcl.data.feed.view_reader import ViewReader
from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.answer_tokens import AnswerTokens
from tcl.data.texts.question import Asked, question_of, tokenize_answers
from tcl.data.texts.text_tokens import Texts
from tcl.data.texts.tokenize import tokenize

NO_ANSWERS = "missing answers"


@dataclass
class Example:
    """A question and a view of its image."""

    view: Any
    asked: Asked
    key: str


class QuestionReader:
    """Reads questions, with one view of their image that `images` makes, and makes batches of them.

    max_answer_tokens (>= 1): longer answers are cut.
    """

    def __init__(
        self, data: DataConfig, images: ViewReader, tokenizer: PreTrainedTokenizerBase, max_answer_tokens: int
    ):
        self.data = data
        self.images = images
        self.tokenizer = tokenizer
        self.max_answer_tokens = max_answer_tokens

    def read(self, fields: dict[str, bytes], key: str, rng: random.Random) -> Example:
        """A sample's bytes by extension -> an example; `rng` draws the view. BadSample: unusable."""
        asked = question_of(fields, key, self.data.max_words)
        if not any(answer.strip() for answer in asked.answers):
            raise BadSample(NO_ANSWERS)
        return Example(self.images.open(fields).view(rng), asked, key)

    def batch(self, examples: list[Example], seed: int) -> Batch:
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
        return Batch(
            keys=[example.key for example in examples],
            inputs={
                "image": self.images.batch([example.view for example in examples]),
                "text": Texts(input_ids, attention_mask),
                "answer": AnswerTokens(
                    answer_ids,
                    weights=torch.tensor(weights),
                    question_index=torch.tensor(index),
                    target_positions=positions,
                    target_ids=answer_ids.flatten()[positions + 1],
                ),
            },
        )
