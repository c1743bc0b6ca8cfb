"""Images as people have them to pixels for the image encoder.

A path; the bytes of an image file, or such a file opened for reading; a Pillow image; a numpy array or a torch tensor
(tcl.inference.arrays says of which shape and range).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from tcl.config.data import DataConfig
from tcl.data.images.decode_image import decode_image, upright_rgb
from tcl.errors import InputError
from tcl.inference.arrays import ArrayLike, is_several, rgb_of
from tcl.inference.files import FileLike, decoded, is_file_like, listed
from tcl.inference.hardware import Hardware
from tcl.shown import QUIET_SECONDS

ImageLike = FileLike | Image.Image | ArrayLike
Transform = Callable[[np.ndarray], Tensor]
"""[H, W, 3] uint8 RGB -> pixels [3, height, width], as an image encoder takes them; it can be pickled."""
MAX_PIXELS = DataConfig.max_pixels
"""Images with more pixels are refused before they are decoded: a small file can claim to be enormous."""
ONE_OF = "a path, bytes, a file opened with 'rb', a PIL image, a numpy array or a tensor"


def list_images(images: ImageLike | Iterable[ImageLike], name: str = "images") -> list[ImageLike]:
    """One image or several as a list, in which opened files have become their bytes.

    InputError: none at all, something that is no ImageLike, an opened file that cannot be read.
    """
    if isinstance(images, np.ndarray | Tensor) and is_several(images):
        images = list(images)
    return listed(images, name, _is_one, f"is no image; give {ONE_OF}")


def _is_one(image: object) -> bool:
    return isinstance(image, Image.Image | np.ndarray | Tensor) or is_file_like(image)


def read_image(image: ImageLike, name: str) -> np.ndarray:
    """[H, W, 3] uint8 RGB, upright, as in training. InputError: no such file, no image, damaged, over MAX_PIXELS."""
    accepted = f"give a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF of at most {MAX_PIXELS:,} pixels"
    if isinstance(image, np.ndarray | Tensor):
        return rgb_of(image, name, MAX_PIXELS)
    if isinstance(image, Image.Image):
        return _read_pillow(image, name, accepted)
    return decoded(image, name, accepted, partial(decode_image, max_pixels=MAX_PIXELS))


def _read_pillow(image: Image.Image, name: str, accepted: str) -> np.ndarray:
    if not 0 < image.width * image.height <= MAX_PIXELS:
        raise InputError(f"{name}: a PIL image of {image.width} x {image.height} pixels; {accepted}")
    try:
        image.load()  # until now it may be no more than an opened file
        return upright_rgb(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{name}: a PIL image cannot be read ({' '.join(str(error).split())}); {accepted}") from error


def read_pixels(images: Sequence[ImageLike], transform: Transform, name: str, start: int = 0) -> Tensor:
    """Pixels [b, 3, H, W] of b images, which messages call name[start], name[start + 1], ... InputError: as above."""
    return torch.stack([transform(read_image(image, f"{name}[{start + i}]")) for i, image in enumerate(images)])


@torch.no_grad()
def encode_images(
    encoder: Callable[[Tensor], Tensor],
    transform: Transform,
    images: Sequence[ImageLike],
    *,
    batch_size: int,
    hardware: Hardware,
    name: str = "images",
) -> Iterator[Tensor]:
    """What `encoder` makes of pixels [b, 3, H, W], batch_size (>= 1) images at a time; a progress bar where it takes
    long.

    name: what messages call the images. InputError: as `read_image`.
    """
    starts = range(0, len(images), batch_size)
    for start in tqdm(starts, desc=name, unit="batch", leave=False, delay=QUIET_SECONDS, disable=None):
        pixels = read_pixels(images[start : start + batch_size], transform, name, start)
        with hardware.autocast():
            yield encoder(pixels.to(hardware.device))
