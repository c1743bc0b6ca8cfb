"""The images of a folder or of shards, one after the other, decoded by worker processes.

A million of them take no more memory than the few batches that are under way.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from tcl.config.data import DataConfig
from tcl.data.feed.worker_process import decoded, prepare_worker
from tcl.data.images.decode_image import decode_image, image_bytes
from tcl.data.images.image_format import IMAGE_EXTENSIONS, READ, described, format_of
from tcl.data.shards.bad_sample import BadSample, Skipped, reading
from tcl.data.shards.list_shards import shard_labels
from tcl.data.shards.read_shard import read_samples
from tcl.data.shards.shard_bytes import NoRegularFileError, open_file
from tcl.data.texts.captions import spelt_out
from tcl.errors import InputError

UNREADABLE = "file cannot be read"
LINKED_FOLDER = "folder behind a link, not entered"
NO_FILE = "device, pipe or socket, not read"
MAX_FILE_BYTES = DataConfig.max_sample_bytes
LARGE_FILE = f"file of more than {MAX_FILE_BYTES:,} bytes"
"""Causes of a skipped image, beside those of decode_image, image_format and read_shard."""

_START = 1024


class EncodedImage(NamedTuple):
    """The bytes of an image, or the problem that kept them from being read."""

    id: str
    content: bytes
    problem: str | None = None


@dataclass(frozen=True)
class ImageFiles:
    """Files that hold images: those of a folder hold one each, shards many."""

    paths: list[str]
    read: Callable[[str], Iterator[EncodedImage]]
    """The images of one of them."""


@dataclass(frozen=True)
class ImageBatch:
    """b images (b may be 0), and those that were skipped on the way to them."""

    ids: list[str]
    places: list[tuple[int, int]]
    """[b], (number of the file, number in the file): ascending, they are the order of the source."""
    pixels: Tensor
    """[b, 3, H, W]; [0] without images."""
    skipped: list[Skipped]


def images_of_folder(folder: Path) -> ImageFiles:
    """All files below `folder`, in the order of their names; ids are paths relative to it. Their bytes say which of
    them are images, whatever they are called.

    Folders that are links are not entered. InputError: no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise InputError(f"images: {folder} is no folder; give one that holds images")
    closed: list[str] = []
    found: list[str] = []
    for place, folders, names in os.walk(folder, onerror=lambda error: closed.append(error.filename)):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        found += [os.path.join(place, name) for name in names + links]
    paths = sorted(found + closed)
    if not paths:
        raise InputError(f"images: {folder} holds no images; accepted: {', '.join(IMAGE_EXTENSIONS)}")
    return ImageFiles(paths, partial(_read_file, folder))


def images_of_shards(urls: Sequence[str]) -> ImageFiles:
    """Samples of shards; ids are '<shard name>/<sample key>', with the whole path where two shards share a name."""
    return ImageFiles(list(urls), partial(_read_shard, shard_labels(urls)))


def stream_images(
    files: ImageFiles, transform: Callable[[np.ndarray], Tensor], *, batch_size: int, max_pixels: int, workers: int
) -> Iterator[ImageBatch]:
    """Batches of at most batch_size (>= 1) images; the order of files depends on `workers` (processes, >= 0).

    max_pixels: larger images are skipped before they are decoded. InputError: a worker died.
    """
    loader = DataLoader(
        _Stream(files, transform, max_pixels),
        batch_size=batch_size,
        num_workers=min(workers, len(files.paths)),
        collate_fn=_collate,
        worker_init_fn=prepare_worker,
    )
    yield from decoded(loader, workers="workers", batch_size="batch_size")


class _Decoded(NamedTuple):
    id: str
    place: tuple[int, int]
    pixels: Tensor | None
    problem: str | None


class _Stream(IterableDataset):
    """Each worker takes every n-th file."""

    def __init__(self, files: ImageFiles, transform: Callable[[np.ndarray], Tensor], max_pixels: int):
        self.files, self.transform, self.max_pixels = files, transform, max_pixels

    def __iter__(self) -> Iterator[_Decoded]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for number in range(first, len(self.files.paths), step):
            for i, image in enumerate(self.files.read(self.files.paths[number])):
                yield self._decode(image, (number, i))

    def _decode(self, image: EncodedImage, place: tuple[int, int]) -> _Decoded:
        try:
            if image.problem is not None:
                raise BadSample(image.problem)
            with reading():
                pixels = self.transform(decode_image(image.content, max_pixels=self.max_pixels))
            return _Decoded(image.id, place, pixels, None)
        except BadSample as cause:
            return _Decoded(image.id, place, None, str(cause))


def _collate(images: list[_Decoded]) -> ImageBatch:
    good = [image for image in images if image.pixels is not None]
    return ImageBatch(
        [image.id for image in good],
        [image.place for image in good],
        torch.stack([image.pixels for image in good]) if good else torch.empty(0),
        [Skipped(image.id, image.problem) for image in images if image.pixels is None],
    )


def _read_file(folder: Path, path: str) -> Iterator[EncodedImage]:
    name = spelt_out(Path(path).relative_to(folder).as_posix())
    try:
        yield EncodedImage(name, _image_in(path))
    except BadSample as cause:
        yield EncodedImage(name, b"", str(cause))


def _image_in(path: str) -> bytes:
    """The bytes of a file, which its name or its first bytes call an image. BadSample: neither does, or unreadable."""
    try:
        if os.path.isdir(path) and os.path.islink(path):
            raise BadSample(LINKED_FOLDER)
        with open_file(path) as file:
            start = file.read(_START)
            check_kind(start, path)
            rest = file.read(MAX_FILE_BYTES)
    except NoRegularFileError as error:
        raise BadSample(NO_FILE) from error
    except OSError as error:
        raise BadSample(UNREADABLE) from error
    if len(start) + len(rest) > MAX_FILE_BYTES:
        raise BadSample(LARGE_FILE)
    return start + rest


def check_kind(start: bytes, path: str) -> None:
    """BadSample: neither the first bytes of a file nor its name call it an image."""
    kind = format_of(start)
    named = Path(path).suffix.lower().lstrip(".") in IMAGE_EXTENSIONS
    if kind not in (*READ, "HEIC") and not (named and kind is None):
        raise BadSample(described(start[:_START]))


def _read_shard(labels: dict[str, str], url: str) -> Iterator[EncodedImage]:
    for sample in read_samples(url):
        name = f"{labels[url]}/{sample.key.partition('/')[2]}"
        try:
            yield EncodedImage(name, image_bytes(sample.usable()))
        except BadSample as cause:
            yield EncodedImage(name, b"", str(cause))
