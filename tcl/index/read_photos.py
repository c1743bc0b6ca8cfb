"""The images that an index is to read, decoded by worker processes, in batches that do not depend on these."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from tcl.annotations.inside import read_inside
from tcl.data.feed.worker_process import decoded, prepare_worker
from tcl.data.images.decode_image import image_bytes
from tcl.data.images.read_images import MAX_FILE_BYTES, check_kind
from tcl.data.shards.bad_sample import BadSample
from tcl.data.shards.read_shard import RawSample, read_samples
from tcl.data.texts.sample_texts import clean_captions
from tcl.index.photo import MAX_CAPTION, Photo, Prepare, read_photo
from tcl.index.scan import Work


@dataclass(frozen=True)
class FileRead:
    """What was read of one file."""

    work: Work
    photos: list[Photo]
    """Without their pixels."""
    samples: int
    """As many from its first on, all times together."""
    whole: bool


@dataclass(frozen=True)
class PhotoBatch:
    """Images of some files, in their order."""

    files: list[FileRead]
    pixels: tuple[Tensor, ...]
    """[n, ...] of those that could be read, one tensor for each network of the model; () where none could."""


ReadWork = Callable[[Sequence[Work], int, Prepare], Iterator[PhotoBatch]]
"""Files, batch size, prepare -> batches of at most as many images."""


def chunks_of(work: Sequence[Work], size: int) -> list[Sequence[Work]]:
    """`size` files each, which one worker reads."""
    return [work[start : start + size] for start in range(0, len(work), size)]


def stream_photos(
    chunks: Sequence[Sequence[Work]], read: ReadWork, prepare: Prepare, *, batch_size: int, workers: int
) -> Iterator[PhotoBatch]:
    """Those of every chunk. Of folders they come in order; of shards, each in order, as many at a time as workers.

    InputError: a worker died.
    """
    loader = DataLoader(
        _Stream(chunks, read, prepare, batch_size),
        batch_size=None,
        num_workers=min(workers, len(chunks)),
        worker_init_fn=prepare_worker,
    )
    yield from decoded(loader, workers="workers", batch_size="batch_size")


class _Stream(IterableDataset):
    """Each worker takes every n-th chunk."""

    def __init__(self, chunks: Sequence[Sequence[Work]], read: ReadWork, prepare: Prepare, batch_size: int):
        self.chunks, self.read, self.prepare, self.batch_size = chunks, read, prepare, batch_size

    def __iter__(self) -> Iterator[PhotoBatch]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for chunk in self.chunks[first::step]:
            yield from self.read(chunk, self.batch_size, self.prepare)


def read_files(folder: Path, work: Sequence[Work], batch_size: int, prepare: Prepare) -> Iterator[PhotoBatch]:
    """Files below `folder`, each an image: one batch."""
    photos = [read_photo("", partial(_file_content, folder, os.fsdecode(one.file)), prepare) for one in work]
    yield _batch([(one, [photo], 1, True) for one, photo in zip(work, photos, strict=True)])


def read_shards(work: Sequence[Work], batch_size: int, prepare: Prepare) -> Iterator[PhotoBatch]:
    """Shards, each of many images."""
    for shard in work:
        photos: list[Photo] = []
        samples = shard.first
        for sample in read_samples(os.fsdecode(shard.file), start=shard.first):
            if len(photos) == batch_size:
                yield _batch([(shard, photos, samples, False)])
                photos = []
            photos.append(read_photo(sample.key.partition("/")[2], partial(_sample_content, sample), prepare))
            samples = sample.index + 1
        yield _batch([(shard, photos, samples, True)])


def _file_content(folder: Path, name: str) -> tuple[bytes, None]:
    content = read_inside(folder, name, MAX_FILE_BYTES)
    check_kind(content, name)
    return content, None


def _sample_content(sample: RawSample) -> tuple[bytes, str | None]:
    fields = sample.usable()
    try:
        caption = clean_captions(fields, MAX_CAPTION)[0]
    except BadSample:
        caption = None
    return image_bytes(fields), caption


def _batch(files: list[tuple[Work, list[Photo], int, bool]]) -> PhotoBatch:
    good = [photo.pixels for _, photos, _, _ in files for photo in photos if photo.problem is None]
    pixels = tuple(torch.stack(of_network) for of_network in zip(*good, strict=True))
    return PhotoBatch([FileRead(work, [_bare(p) for p in photos], *rest) for work, photos, *rest in files], pixels)


def _bare(photo: Photo) -> Photo:
    """Its pixels are in the batch's."""
    return Photo(**vars(photo) | {"pixels": ()})
