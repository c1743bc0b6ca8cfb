"""Questions with an image: what the samples of shards become in training on VQA."""

import random
from collections import Counter
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from tcl.config.data import DataConfig
from tcl.data.batch import Batch
from tcl.data.images.augment import Augment, View
from tcl.data.images.decode_image import decode_image, image_bytes
from tcl.data.images.image_views import Images
from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.answer_tokens import AnswerTokens
from tcl.data.texts.question import Asked, question_of, tokenize_answers
from tcl.data.texts.text_tokens import Texts
from tcl.data.texts.tokenize import tokenize

NO_ANSWERS = "missing answers"


@dataclass
class Example:
    """A question and a view of its image."""

    view: View
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
                "image": Images(
                    torch.stack([example.view.pixels for example in examples]),
                    steps=[example.view.steps for example in examples],
                ),
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
