"""Texts about one image or two, with a class: what the samples of shards become in training on entailment and NLVR2."""

import random
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from tcl.config.data import DataConfig
from tcl.data.batch import Batch
from tcl.data.feed.view_reader import ViewReader
from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.label import Labels
from tcl.data.texts.statement import Form, Statement, statement_of
from tcl.data.texts.text_tokens import Texts
from tcl.data.texts.tokenize import tokenize


@dataclass
class Example:
    """A statement with a view of each of its images."""

    statement: Statement
    views: list[Any]
    key: str


class StatementReader:
    """Reads samples of `form`, with one view of each of their images that `images` makes, and makes batches of them:
    an input for each image, by its name, "text" and "label".

    Each view is drawn on its own: a flip neither swaps images nor leaves left and right in their places.
    """

    def __init__(self, data: DataConfig, images: ViewReader, tokenizer: PreTrainedTokenizerBase, form: Form):
        self.data = data
        self.images = images
        self.tokenizer = tokenizer
        self.form = form

    def read(self, fields: dict[str, bytes], key: str, rng: random.Random) -> Example:
        """A sample's bytes by extension -> an example; `rng` draws the views. BadSample: unusable."""
        statement = statement_of(fields, key, self.form, self.data.max_words)
        if not self.tokenizer.tokenize(statement.text):  # e.g. nothing but control characters
            raise BadSample(f"missing {self.form.text}")
        return Example(statement, [self.images.open(one).view(rng) for one in statement.images], key)

    def batch(self, examples: list[Example], seed: int) -> Batch:
        """A batch of `examples`; there is nothing random in it."""
        ids, mask = tokenize(self.tokenizer, [one.statement.text for one in examples], self.data.max_tokens)
        shown = zip(*(one.views for one in examples), strict=True)
        images = {name: self.images.batch(list(views)) for name, views in zip(self.form.images, shown, strict=True)}
        labels = Labels(torch.tensor([one.statement.label for one in examples]))
        return Batch([one.key for one in examples], {**images, "text": Texts(ids, mask), "label": labels})
