"""The image of a row: found, checked, perhaps shrunk, or the cause for which the row is skipped."""

import io
import os
from dataclasses import dataclass
from pathlib import Path, PurePath

from PIL import Image

from tcl.annotations.row import Row
from tcl.data.decode import BadSample, decode_image
from tcl.data.image_format import extension_of

OUTSIDE = "path leaves the image folder"
MISSING = "missing image file"
UNREADABLE = "image file cannot be read"
"""Causes of a skipped row; the others are those of tcl.data.decode and tcl.annotations."""


@dataclass(frozen=True)
class Packed:
    """The image of a sample, ready to be stored."""

    extension: str
    image: bytes


@dataclass(frozen=True)
class Skipped:
    """A row that became no sample."""

    where: str
    image: str | None
    cause: str


def pack_row(row: Row, images: Path, max_side: int | None, quality: int, max_pixels: int) -> Packed | Skipped:
    """The contents of the row's sample, its image under the folder `images`; the options are those of make_shards."""
    try:
        if row.problem is not None:
            raise BadSample(row.problem)
        content = _read_image(images, row.image)
        return Packed(*_pack_image(content, max_side, quality, max_pixels))
    except BadSample as cause:
        return Skipped(row.where, row.image, str(cause))


def _read_image(folder: Path, name: str) -> bytes:
    if not os.path.isabs(name) and PurePath(os.path.normpath(name)).parts[:1] == ("..",):
        raise BadSample(OUTSIDE)
    path = folder / name
    try:
        if not path.is_file():
            raise BadSample(MISSING)
        return path.read_bytes()
    except OSError as error:
        raise BadSample(UNREADABLE) from error


def _pack_image(content: bytes, max_side: int | None, quality: int, max_pixels: int) -> tuple[str, bytes]:
    # A JPEG may be decoded at a fraction of its size: any to see that it is whole, twice max_side to be shrunk.
    image = Image.fromarray(
        decode_image(content, max_pixels=max_pixels, min_side=1 if max_side is None else 2 * max_side)
    )
    if max_side is None or max(image.size) <= max_side:
        return extension_of(content), content
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=quality)
    return "jpg", jpeg.getvalue()
