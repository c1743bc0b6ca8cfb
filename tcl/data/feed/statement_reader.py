"""Texts about one image or two, with a class: what the samples of shards become in training on entailment and NLVR2."""

import random
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from tcl.config.data import DataConfig
from tcl.data.batch import Batch
from tcl.data.images.augment import Augment, View
from tcl.data.images.decode_image import decode_image
from tcl.data.images.image_views import Images
from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.label import Labels
from tcl.data.texts.statement import Form, Statement, statement_of
from tcl.data.texts.text_tokens import Texts
from tcl.data.texts.tokenize import tokenize


@dataclass
class Example:
    """A statement with an augmented view of each of its images."""

    statement: Statement
    views: list[View]
    key: str


class StatementReader:
    """Decodes samples of `form`, and makes batches of them: an input for each image, by its name, "text" and "label".

    Each image is augmented on its own: a flip neither swaps images nor leaves left and right in their places.
    """

    def __init__(self, data: DataConfig, augment: Augment, tokenizer: PreTrainedTokenizerBase, form: Form):
        self.data = data
        self.augment = augment
        self.tokenizer = tokenizer
        self.form = form

    def read(self, fields: dict[str, bytes], key: str, rng: random.Random) -> Example:
        """A sample's bytes by extension -> an example; `rng` draws the views. BadSample: unusable."""
        statement = statement_of(fields, key, self.form, self.data.max_words)
        if not self.tokenizer.tokenize(statement.text):  # e.g. nothing but control characters
            raise BadSample(f"missing {self.form.text}")
        limits = {"max_pixels": self.data.max_pixels, "min_side": self.augment.min_side}
        views = [self.augment(decode_image(content, **limits), rng) for content in statement.images]
        return Example(statement, views, key)

    def batch(self, examples: list[Example], seed: int) -> Batch:
        """A batch of `examples`; there is nothing random in it."""
        ids, mask = tokenize(self.tokenizer, [one.statement.text for one in examples], self.data.max_tokens)
        shown = zip(*(one.views for one in examples), strict=True)
        images = {
            name: Images(torch.stack([view.pixels for view in views]), steps=[view.steps for view in views])
            for name, views in zip(self.form.images, shown, strict=True)
        }
        labels = Labels(torch.tensor([one.statement.label for one in examples]))
        return Batch([one.key for one in examples], {**images, "text": Texts(ids, mask), "label": labels})
