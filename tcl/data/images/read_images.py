"""The images of a folder or of shards, one after the other, decoded by worker processes."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from tcl.config.data import DataConfig
from tcl.data.feed.file_stream import START, FileBatch, Files, files_of_folder, files_of_shards, stream_files
from tcl.data.images.decode_image import decode_image, image_bytes
from tcl.data.images.image_format import DECODED, IMAGE_EXTENSIONS, described, format_of
from tcl.data.shards.bad_sample import BadSample

MAX_FILE_BYTES = DataConfig.max_sample_bytes


def images_of_folder(folder: Path) -> Files:
    """As `files_of_folder`. Their bytes say which of them are images, whatever they are called."""
    return files_of_folder(folder, "images", ", ".join(IMAGE_EXTENSIONS), check_kind, MAX_FILE_BYTES)


def images_of_shards(urls: Sequence[str]) -> Files:
    """As `files_of_shards`."""
    return files_of_shards(urls, image_bytes)


def stream_images(
    files: Files, transform: Callable[[np.ndarray], Tensor], *, batch_size: int, max_pixels: int, workers: int
) -> Iterator[FileBatch]:
    """As `stream_files`: pixels [b, 3, H, W]. max_pixels: larger images are skipped before they are decoded."""
    yield from stream_files(files, partial(_pixels, transform, max_pixels), batch_size=batch_size, workers=workers)


def check_kind(start: bytes, path: str) -> None:
    """BadSample: neither the first bytes of a file nor its name call it an image."""
    kind = format_of(start)
    named = Path(path).suffix.lower().lstrip(".") in IMAGE_EXTENSIONS
    if kind not in DECODED and not (named and kind is None):
        raise BadSample(described(start[:START]))


def _pixels(transform: Callable[[np.ndarray], Tensor], max_pixels: int, content: bytes) -> tuple[Tensor]:
    return (transform(decode_image(content, max_pixels=max_pixels)),)
