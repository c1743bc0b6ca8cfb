"""The image of a row: found, checked, perhaps shrunk, or the cause for which the row is skipped."""

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tcl.annotations.inside import read_inside
from tcl.annotations.row import Row
from tcl.data.decode import BadSample, decode_image

NO_EXTENSION = "image format without a file extension"
"""Cause of a skipped row; the others are those of tcl.data.decode and tcl.annotations."""

_STARTS = {
    b"\xff\xd8": "jpg",
    b"\x89PNG": "png",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"II": "tiff",
    b"MM": "tiff",
}
_LONGEST_PATH = 4096


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


def pack_row(
    row: Row, images: Path, max_side: int | None, quality: int, max_pixels: int, max_image_bytes: int
) -> Packed | Skipped:
    """The contents of the row's sample, its image under the folder `images`; the options are those of make_shards."""
    try:
        if row.problem is not None:
            raise BadSample(row.problem)
        content = read_inside(images, row.image, max_image_bytes)
        return Packed(*_pack_image(content, max_side, quality, max_pixels))
    except BadSample as problem:
        cause = str(problem)
    except Exception as error:  # no row ends the work on the others
        cause = f"image cannot be packed ({type(error).__name__})"
    return Skipped(row.where[:_LONGEST_PATH], None if row.image is None else row.image[:_LONGEST_PATH], cause)


def _pack_image(content: bytes, max_side: int | None, quality: int, max_pixels: int) -> tuple[str, bytes]:
    # A JPEG may be decoded at a fraction of its size: any to see that it is whole, twice max_side to be shrunk.
    image = Image.fromarray(
        decode_image(content, max_pixels=max_pixels, min_side=1 if max_side is None else 2 * max_side)
    )
    if max_side is None or max(image.size) <= max_side:
        return image_extension(content), content
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=quality)
    return "jpg", jpeg.getvalue()


def image_extension(content: bytes) -> str:
    """The file extension of an image that decode_image accepts, by its content. BadSample: a format without one."""
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "webp"
    if content[4:8] == b"ftyp":
        # AVIF may also call itself by a more general name first, and then lists its own.
        return "avif" if b"avif" in content[8:64] or b"avis" in content[8:64] else "heic"
    for start, extension in _STARTS.items():
        if content.startswith(start):
            return extension
    raise BadSample(NO_EXTENSION)
