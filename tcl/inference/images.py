"""Images as people have them, paths or Pillow images, to pixels for the image encoder."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from tcl.config import DataConfig
from tcl.data.decode import BadSample, decode_image, upright_rgb
from tcl.errors import InputError
from tcl.inference.hardware import Hardware
from tcl.models.image_encoder import ImageEncoder
from tcl.progress import QUIET_SECONDS

ImageLike = Image.Image | str | os.PathLike[str]
MAX_PIXELS = DataConfig.max_pixels
"""Images with more pixels are refused before they are decoded: a small file can claim to be enormous."""


def list_images(images: ImageLike | Iterable[ImageLike], name: str = "images") -> list[ImageLike]:
    """One image or several as a list. InputError: none at all, or something that is neither a path nor an image."""
    if isinstance(images, Image.Image | str | os.PathLike):
        return [images]
    if not isinstance(images, Iterable):
        raise InputError(f"{name}: a {type(images).__name__} is no image; give a path, a PIL image, or a list of them")
    listed = list(images)
    if not listed:
        raise InputError(f"{name}: there are none; give at least one")
    for i, image in enumerate(listed):
        if not isinstance(image, Image.Image | str | os.PathLike):
            raise InputError(f"{name}[{i}]: a {type(image).__name__} is no image; give a path or a PIL image")
    return listed


def read_image(image: ImageLike, name: str) -> np.ndarray:
    """[H, W, 3] uint8 RGB, upright, as in training. InputError: no such file, no image, damaged, over MAX_PIXELS."""
    accepted = f"give a JPEG, PNG, WebP, GIF, BMP or TIFF of at most {MAX_PIXELS:,} pixels"
    try:
        if not isinstance(image, Image.Image):
            path = Path(image)
            if not path.is_file():
                raise InputError(f"{name}: {str(path)!r} is no file; {accepted}")
            return decode_image(path.read_bytes(), max_pixels=MAX_PIXELS)
        pixels = image.width * image.height
        if not 0 < pixels <= MAX_PIXELS:
            raise InputError(f"{name}: a PIL image of {image.width} x {image.height} pixels; {accepted}")
        image.load()  # until now it may be no more than an opened file
        return upright_rgb(image)
    except BadSample as problem:
        raise InputError(f"{name}: {str(path)!r} cannot be used: {problem}; {accepted}") from problem
    except (OSError, ValueError, SyntaxError) as error:
        what = "a PIL image" if isinstance(image, Image.Image) else repr(str(image))
        raise InputError(f"{name}: {what} cannot be read ({' '.join(str(error).split())}); {accepted}") from error


def read_pixels(
    images: Sequence[ImageLike], transform: Callable[[np.ndarray], Tensor], name: str, start: int = 0
) -> Tensor:
    """Pixels [b, 3, H, W] of b images, which messages call name[start], name[start + 1], ... InputError: as above."""
    return torch.stack([transform(read_image(image, f"{name}[{start + i}]")) for i, image in enumerate(images)])


@torch.no_grad()
def encode_images(
    encoder: ImageEncoder,
    transform: Callable[[np.ndarray], Tensor],
    images: Sequence[ImageLike],
    *,
    batch_size: int,
    hardware: Hardware,
    name: str = "images",
) -> Iterator[Tensor]:
    """Tokens [b, 1 + patches, width] of images, batch_size (>= 1) at a time; a progress bar where it takes long.

    name: what messages call the images. InputError: as `read_image`.
    """
    starts = range(0, len(images), batch_size)
    for start in tqdm(starts, desc=name, unit="batch", leave=False, delay=QUIET_SECONDS, disable=None):
        pixels = read_pixels(images[start : start + batch_size], transform, name, start)
        with hardware.autocast():
            yield encoder(pixels.to(hardware.device))
