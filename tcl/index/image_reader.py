"""Images as an index reads them."""

import contextlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
from PIL import Image

from tcl.data.images.decode_image import MAX_EXIF_BYTES, decode_image, image_bytes
from tcl.data.images.read_images import MAX_FILE_BYTES, check_kind
from tcl.index.read_item import ReadItem, Seen, small_jpeg
from tcl.inference.images import MAX_PIXELS, Transform

IMAGE = "image"
_DESCRIPTION, _CHANGED, _EXIF, _TAKEN = 0x010E, 0x0132, 0x8769, 0x9003


@dataclass(frozen=True)
class ImageReader:
    """As tcl.index.read_item.Reader says."""

    transforms: Sequence[Transform]
    """Of each network."""
    max_bytes: int = MAX_FILE_BYTES

    def check(self, content: bytes, name: str) -> None:
        """As Reader.check."""
        check_kind(content, name)

    def pick(self, fields: dict[str, bytes]) -> bytes:
        """As Reader.pick."""
        return image_bytes(fields)

    def look(self, content: bytes) -> ReadItem:
        """As Reader.look."""
        rgb = decode_image(content, max_pixels=MAX_PIXELS)
        return item_of_image(content, rgb, self._seen(rgb))

    def see(self, content: bytes, max_pixels: int) -> Seen:
        """As Reader.see."""
        return self._seen(decode_image(content, max_pixels=max_pixels))

    def accepted(self, max_pixels: int) -> str:
        """As Reader.accepted."""
        return f"give a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF of at most {max_pixels:,} pixels"

    def _seen(self, rgb: np.ndarray) -> Seen:
        return Seen(IMAGE, tuple(transform(rgb) for transform in self.transforms))


def item_of_image(content: bytes, rgb: np.ndarray, seen: Seen) -> ReadItem:
    """An image file that is decoded, [H, W, 3], with what its EXIF data say."""
    taken, described = exif_of(content)
    height, width = rgb.shape[:2]
    picture = small_jpeg(rgb)
    return ReadItem("", seen=seen, width=width, height=height, taken=taken, caption=described, picture=picture)


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
