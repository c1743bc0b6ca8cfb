"""One image as an index reads it: what the model gets of it, and what is kept beside that."""

import contextlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

import cv2
import numpy as np
import simplejpeg
from PIL import Image
from torch import Tensor

from tcl.data.images.decode_image import MAX_EXIF_BYTES, decode_image
from tcl.data.shards.bad_sample import BadSample, reading
from tcl.inference.images import MAX_PIXELS

Prepare = Callable[[np.ndarray], tuple[Tensor, ...]]
"""RGB [H, W, 3] -> what the networks of a model get of it, one tensor for each of them."""

PICTURE_SIDE, PICTURE_QUALITY = 256, 80
MAX_CAPTION = 1000
"""Characters."""
_DESCRIPTION, _CHANGED, _EXIF, _TAKEN = 0x010E, 0x0132, 0x8769, 0x9003


@dataclass(frozen=True)
class Photo:
    """An image that was read, or the problem with it."""

    key: str
    """Of a shard's sample; empty for a file of its own."""
    problem: str | None = None
    pixels: tuple[Tensor, ...] = ()
    width: int = 0
    height: int = 0
    taken: int | None = None
    """When, as tcl.index.within counts seconds."""
    caption: str | None = None
    picture: bytes = b""
    """A JPEG whose longer side has PICTURE_SIDE pixels or fewer."""


def read_photo(key: str, content: Callable[[], tuple[bytes, str | None]], prepare: Prepare) -> Photo:
    """content: gives the bytes, and a caption where there is one beside them; its BadSample is the problem."""
    try:
        encoded, caption = content()
        with reading():
            rgb = decode_image(encoded, max_pixels=MAX_PIXELS)
            taken, described = exif_of(encoded)
            height, width = rgb.shape[:2]
            caption = (caption or described or "")[:MAX_CAPTION] or None
            return Photo(key, None, prepare(rgb), width, height, taken, caption, small_jpeg(rgb))
    except BadSample as cause:
        return Photo(key, str(cause))


def small_jpeg(rgb: np.ndarray) -> bytes:
    """Of [H, W, 3] uint8."""
    height, width = rgb.shape[:2]
    scale = min(1.0, PICTURE_SIDE / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), quality=PICTURE_QUALITY)


def exif_of(content: bytes) -> tuple[int | None, str | None]:
    """When a decodable image was taken, and its description, as far as its EXIF data say."""
    with contextlib.suppress(Exception), warnings.catch_warnings():  # broken EXIF data are no reason to lose the image
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(content))
        if len(image.info.get("exif", b"")) > MAX_EXIF_BYTES:
            return None, None
        exif = image.getexif()
        date = exif.get_ifd(_EXIF).get(_TAKEN) or exif.get(_CHANGED)
        return _seconds(date), _text(exif.get(_DESCRIPTION))
    return None, None


def _seconds(date: object) -> int | None:
    """Of 2021:05:30 12:00:00."""
    try:
        found = datetime.strptime(str(date).strip("\0 "), "%Y:%m:%d %H:%M:%S")
    except ValueError:
        return None
    return int(found.replace(tzinfo=timezone.utc).timestamp())


def _text(described: object) -> str | None:
    if not isinstance(described, str):
        return None
    return " ".join(described.encode("utf-8", "ignore").decode().replace("\0", " ").split()) or None
