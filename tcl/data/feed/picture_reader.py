"""Images alone: whole, or as a view that is drawn."""

import random
from typing import NamedTuple

import torch

from tcl.config.data import DataConfig
from tcl.data.batch import Batch
from tcl.data.images.augment import View
from tcl.data.images.decode_image import decode_image, image_bytes
from tcl.data.images.image_operations import Box, resized_crop
from tcl.data.images.pixel_views import PixelViews


class Picture(NamedTuple):
    """A view of an image."""

    key: str
    view: View


class PictureReader:
    """Reads the image of a sample, KEY.jpg and the like, to [3, image_size, image_size]."""

    def __init__(self, data: DataConfig, image_size: int):
        self.max_pixels = data.max_pixels
        self.image_size = image_size
        self.views = PixelViews(data, image_size)

    def read(self, fields: dict[str, bytes], key: str, rng: random.Random | None, place: float = 0.5) -> Picture:
        """A sample's bytes by extension -> a view that `rng` draws, as data.augment says; None: all of the image,
        squeezed. There is but one `place`. BadSample: unusable."""
        if rng is not None:
            return Picture(key, self.views.open(fields).view(rng))
        pixels = decode_image(image_bytes(fields), max_pixels=self.max_pixels)
        squeezed = resized_crop(pixels, Box(0, 0, pixels.shape[1], pixels.shape[0]), self.image_size)
        return Picture(key, View(torch.from_numpy(squeezed).permute(2, 0, 1), []))

    def batch(self, pictures: list[Picture], seed: int) -> Batch:
        """A batch of `pictures`; there is nothing random in it."""
        views = self.views.batch([picture.view for picture in pictures])
        return Batch([picture.key for picture in pictures], {"image": views})
