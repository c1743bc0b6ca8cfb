"""Augmented views of decoded images: what training from pixels reads."""

import hashlib
import random
from dataclasses import dataclass

import numpy as np
import torch

from tcl.config.data import DataConfig
from tcl.data.images.augment import Augment, View
from tcl.data.images.decode_image import decode_image, image_bytes
from tcl.data.images.image_views import Images


@dataclass
class DecodedImage:
    """An image of which views can be drawn."""

    content: bytes
    pixels: np.ndarray
    augment: Augment

    @property
    def identity(self) -> int:
        """As `content_hash`."""
        return content_hash(self.content)

    def view(self, rng: random.Random) -> View:
        """A new one, or one of as many as data.augment.views says."""
        return self.augment(self.pixels, rng)


class PixelViews:
    """Decodes images and augments them, as data.augment says, to [3, image_size, image_size]."""

    def __init__(self, data: DataConfig, image_size: int):
        self.max_pixels = data.max_pixels
        self.augment = Augment(data.augment, image_size)

    def open(self, fields: dict[str, bytes]) -> DecodedImage:
        """The image of a sample, given as its bytes by extension. BadSample: unusable, or none."""
        content = image_bytes(fields)
        pixels = decode_image(content, max_pixels=self.max_pixels, min_side=self.augment.min_side)
        return DecodedImage(content, pixels, self.augment)

    def batch(self, views: list[View], other_views: list[View] | None = None) -> Images:
        """Views of B images, and others of the same."""
        images = Images(torch.stack([view.pixels for view in views]), steps=[view.steps for view in views])
        if other_views is not None:
            images.other_view = torch.stack([view.pixels for view in other_views])
            images.other_steps = [view.steps for view in other_views]
        return images


def content_hash(content: bytes) -> int:
    """0 to 2^63 - 1; two contents share one with a probability of about 1e-19."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big") >> 1
