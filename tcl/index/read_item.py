"""One image, clip or sound as an index reads it: what networks get of it, and what is kept beside that."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
import simplejpeg
from torch import Tensor

from tcl.data.shards.bad_sample import BadSample, reading

PICTURE_SIDE, PICTURE_QUALITY = 256, 80
MAX_CAPTION = 1000
"""Characters."""


@dataclass(frozen=True)
class Seen:
    """What the networks of a model get of one file."""

    modality: str
    """By which of them."""
    inputs: tuple[Tensor, ...]
    """Without the batch."""


@dataclass(frozen=True)
class ReadItem:
    """A file that was read, or the problem with it."""

    key: str
    """Of a shard's sample; empty for a file of its own."""
    problem: str | None = None
    seen: Seen | None = None
    type: str | None = None
    """The media type by which it is played, such as video/mp4; None: an image."""
    width: int = 0
    height: int = 0
    """Pixels; 0 of a sound."""
    taken: int | None = None
    """When, as tcl.index.within counts seconds."""
    caption: str | None = None
    picture: bytes = b""
    """A JPEG whose longer side has PICTURE_SIDE pixels or fewer."""


class Reader(Protocol):
    """How the files of an index, and queries, are read; worker processes have it, it holds no network."""

    max_bytes: int
    """Larger files are not read."""

    def check(self, content: bytes, name: str) -> None:
        """BadSample: neither what a file holds nor its name say that it is one of those that are read."""

    def pick(self, fields: dict[str, bytes]) -> bytes:
        """That of a shard's sample which is indexed. BadSample: there is none."""

    def look(self, content: bytes) -> ReadItem:
        """A file for the index. BadSample: it cannot be read."""

    def see(self, content: bytes, max_pixels: int) -> Seen:
        """A query. BadSample: it cannot be read, or is an image of more pixels."""

    def accepted(self, max_pixels: int) -> str:
        """What to give in place of what cannot be read."""


def read_item(key: str, content: Callable[[], tuple[bytes, str | None]], reader: Reader) -> ReadItem:
    """content: gives the bytes, and a caption where there is one beside them; its BadSample is the problem."""
    try:
        encoded, caption = content()
        with reading():
            found = reader.look(encoded)
        return replace(found, key=key, caption=(caption or found.caption or "")[:MAX_CAPTION] or None)
    except BadSample as cause:
        return ReadItem(key, str(cause))


def small_jpeg(rgb: np.ndarray) -> bytes:
    """Of [H, W, 3] uint8."""
    height, width = rgb.shape[:2]
    scale = min(1.0, PICTURE_SIDE / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), quality=PICTURE_QUALITY)
