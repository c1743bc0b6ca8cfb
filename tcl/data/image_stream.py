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

from tcl.data.decode import IMAGE_EXTENSIONS, BadSample, decode_image, image_bytes
from tcl.data.read_shard import read_samples
from tcl.data.shard_ids import shard_labels
from tcl.data.skipped import Skipped
from tcl.data.worker_process import decoded, prepare_worker
from tcl.errors import InputError

UNREADABLE = "file cannot be read"
"""A cause of a skipped image, beside those of tcl.data.decode and tcl.data.read_shard."""


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
    """Files below `folder` that are named as images, in the order of their names; ids are paths relative to it.

    Folders that are links are not entered. InputError: no such folder, or no images in it.
    """
    if not folder.is_dir():
        raise InputError(f"images: {folder} is no folder; give one that holds images")
    found = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    paths = sorted(str(path) for path in found if path.suffix.lower().lstrip(".") in IMAGE_EXTENSIONS)
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
    name = Path(path).relative_to(folder).as_posix()
    try:
        yield EncodedImage(name, Path(path).read_bytes())
    except OSError:
        yield EncodedImage(name, b"", UNREADABLE)


def _read_shard(labels: dict[str, str], url: str) -> Iterator[EncodedImage]:
    for sample in read_samples(url):
        name = f"{labels[url]}/{sample.key.partition('/')[2]}"
        try:
            if sample.problem is not None:
                raise BadSample(sample.problem)
            yield EncodedImage(name, image_bytes(sample.fields))
        except BadSample as cause:
            yield EncodedImage(name, b"", str(cause))
