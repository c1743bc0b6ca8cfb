"""Two views of each image by Pillow and torchvision's stock functions, one image at a time, loaded by DataLoader.

The random values of the views are given, so that both sides make the same ones; `OPERATIONS` is the stock way to take
each step.
"""

import io
import tarfile
from collections.abc import Callable, Iterator, Sequence

from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from tcl.data.images.image_operations import GREY, Box
from tcl.data.images.view_step import Step

DrawViews = Callable[[str, int, int], list[list[Step]]]
"""(key, width, height) of an image -> the steps of each of its views."""


class Views(IterableDataset):
    """The views of every image of the shards, each [3, H, W] float, normalised; of n workers each takes every n-th
    shard."""

    def __init__(self, urls: Sequence[str], draw: DrawViews, mean: Sequence[float], std: Sequence[float]):
        self.urls, self.draw, self.mean, self.std = urls, draw, mean, std

    def __iter__(self) -> Iterator[list[Tensor]]:
        process = get_worker_info()
        for url in self.urls[process.id :: process.num_workers] if process else self.urls:
            with tarfile.open(url) as shard:
                for entry in shard:
                    key, _, extension = entry.name.rpartition(".")
                    if extension == "jpg":
                        image = decode(shard.extractfile(entry).read())
                        views = [make_view(image, steps) for steps in self.draw(key, *image.size)]
                        yield [to_tensor(view, self.mean, self.std) for view in views]


def decode(content: bytes) -> Image.Image:
    """An encoded image as RGB."""
    return Image.open(io.BytesIO(content)).convert("RGB")


def make_view(image: Image.Image, steps: Sequence[Step]) -> Image.Image:
    """`image` after the given steps."""
    for step in steps:
        image = OPERATIONS[step.operation.__name__](image, *step.values)
    return image


def to_tensor(image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """An image as [3, H, W] float, normalised."""
    return F.normalize(F.to_tensor(image), mean, std)


def resized_crop(image: Image.Image, box: Box, size: int) -> Image.Image:
    return F.resized_crop(image, box.top, box.left, box.height, box.width, [size, size], InterpolationMode.BICUBIC)


def affine(image: Image.Image, output_to_input: tuple[float, ...]) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, output_to_input, Image.Resampling.BILINEAR, fillcolor=GREY
    )


OPERATIONS: dict[str, Callable] = {
    "resized_crop": resized_crop,
    "brightness": F.adjust_brightness,
    "contrast": F.adjust_contrast,
    "saturation": F.adjust_saturation,
    "hue": F.adjust_hue,
    "grayscale": lambda image: F.rgb_to_grayscale(image, 3),
    "blur": lambda image, sigma: image.filter(ImageFilter.GaussianBlur(sigma)),
    "flip": F.hflip,
    "identity": lambda image: image,
    "autocontrast": F.autocontrast,
    "equalize": F.equalize,
    "sharpness": F.adjust_sharpness,
    "shear_x": lambda image, slope: affine(image, (1, -slope, 0, 0, 1, 0)),
    "shear_y": lambda image, slope: affine(image, (1, 0, 0, -slope, 1, 0)),
    "translate_x": lambda image, shift: affine(image, (1, 0, -shift, 0, 1, 0)),
    "translate_y": lambda image, shift: affine(image, (1, 0, 0, 0, 1, -shift)),
    "rotate": lambda image, degrees: F.rotate(image, degrees, InterpolationMode.BILINEAR, fill=GREY),
}
"""Stock ways to do what the functions of these names in tcl.data.images.image_operations do."""
