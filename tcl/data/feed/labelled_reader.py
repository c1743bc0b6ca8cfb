"""Images with a class: what the samples of shards become in training a classifier."""

import random
from dataclasses import dataclass

import torch

from tcl.config.data import DataConfig
from tcl.data.batch import Batch
from tcl.data.images.augment import Augment, View
from tcl.data.images.decode_image import decode_image, image_bytes
from tcl.data.images.image_views import Images
from tcl.data.texts.label import LabelReader, Labels


@dataclass
class Example:
    """A view of an image, and the class of the image."""

    view: View
    label: int
    key: str


class LabelledReader:
    """Decodes images with one augmented view, and makes batches of them."""

    def __init__(self, data: DataConfig, augment: Augment, classes: list[str]):
        self.data = data
        self.augment = augment
        self.label_of = LabelReader(classes)

    def read(self, fields: dict[str, bytes], key: str, rng: random.Random) -> Example:
        """A sample's bytes by extension -> an example; `rng` draws the view. BadSample: unusable."""
        label = self.label_of(fields)
        pixels = decode_image(image_bytes(fields), max_pixels=self.data.max_pixels, min_side=self.augment.min_side)
        return Example(self.augment(pixels, rng), label, key)

    def batch(self, examples: list[Example], seed: int) -> Batch:
        """A batch of `examples`; there is nothing random in it."""
        views = [example.view for example in examples]
        return Batch(
            keys=[example.key for example in examples],
            inputs={
                "image": Images(torch.stack([view.pixels for view in views]), steps=[view.steps for view in views]),
                "label": Labels(torch.tensor([example.label for example in examples])),
            },
        )
