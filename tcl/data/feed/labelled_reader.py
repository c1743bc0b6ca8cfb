"""Images with a class: what the samples of shards become in training a classifier."""

import random
from dataclasses import dataclass
from typing import Any

import torch

from tcl.data.batch import Batch
from tcl.data.feed.view_reader import ViewReader
from tcl.data.texts.label import LabelReader, Labels


@dataclass
class Example:
    """A view of an image, and the class of the image."""

    view: Any
    label: int
    key: str


class LabelledReader:
    """Reads images, of which `images` makes one view each, and makes batches of them."""

    def __init__(self, images: ViewReader, classes: list[str]):
        self.images = images
        self.label_of = LabelReader(classes)

    def read(self, fields: dict[str, bytes], key: str, rng: random.Random) -> Example:
        """A sample's bytes by extension -> an example; `rng` draws the view. BadSample: unusable."""
        label = self.label_of(fields)
        return Example(self.images.open(fields).view(rng), label, key)

    def batch(self, examples: list[Example], seed: int) -> Batch:
        """A batch of `examples`; there is nothing random in it."""
        return Batch(
            keys=[example.key for example in examples],
            inputs={
                "image": self.images.batch([example.view for example in examples]),
                "label": Labels(torch.tensor([example.label for example in examples])),
            },
        )
