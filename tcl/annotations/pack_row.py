"""The files of a row: found, checked, images perhaps shrunk, or the cause for which the row is skipped."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from tcl.annotations.inside import read_inside
from tcl.annotations.row import Row
from tcl.data.images.decode_image import decode_image
from tcl.data.images.image_format import extension_of
from tcl.data.shards.bad_sample import BadSample, reading

_LONGEST_PATH = 4096


@dataclass(frozen=True)
class Packed:
    """The files of a sample, ready to be stored."""

    files: dict[str, bytes]
    """By extension: jpg of one image, left.jpg and right.jpg of two; mp4 and the like of a clip, wav of its sound."""


@dataclass(frozen=True)
class SkippedRow:
    """A row that became no sample."""

    where: str
    image: str | None
    cause: str


def pack_row(
    row: Row,
    images: Path,
    max_side: int | None,
    quality: int,
    max_pixels: int,
    max_image_bytes: int,
    sounds: Path | None = None,
) -> Packed | SkippedRow:
    """The contents of the row's sample, its files under the folders `images` and `sounds` (default `images`); the
    options are those of make_shards."""
    named = {"": row.image} if row.right_image is None else {"left.": row.image, "right.": row.right_image}
    name, files = row.image, {}
    try:
        with reading():
            if row.problem is not None:
                raise BadSample(row.problem)
            for place, name in named.items():
                if name is None:  # a clip
                    continue
                content = read_inside(images, name, max_image_bytes)
                extension, image = _pack_image(content, max_side, quality, max_pixels)
                files[f"{place}{extension}"] = image
            for role, folder, name in (("video", images, row.video), ("sound", sounds or images, row.sound)):
                if name is not None:
                    extension, content = _pack_media(read_inside(folder, name, max_image_bytes), role)
                    files[extension] = content
            return Packed(files)
    except BadSample as cause:
        return SkippedRow(row.where[:_LONGEST_PATH], None if name is None else name[:_LONGEST_PATH], str(cause))


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


def _pack_media(content: bytes, role: Literal["video", "sound"]) -> tuple[str, bytes]:
    from tcl.annotations.check_media import check_media  # needs an optional package
    from tcl.data.media.media_format import extension_of

    check_media(content, role)
    return extension_of(content, role), content
