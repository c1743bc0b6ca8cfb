"""The files that an index is to read, decoded by worker processes, in batches that do not depend on these."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from tcl.annotations.inside import read_inside
from tcl.data.feed.worker_process import decoded, prepare_worker
from tcl.data.shards.bad_sample import BadSample
from tcl.data.shards.read_shard import RawSample, read_samples
from tcl.data.texts.sample_texts import clean_captions
from tcl.index.read_item import MAX_CAPTION, Reader, ReadItem, read_item
from tcl.index.scan import Work


@dataclass(frozen=True)
class FileRead:
    """What was read of one file."""

    work: Work
    items: list[ReadItem]
    """Without what networks get of them."""
    samples: int
    """As many from its first on, all times together."""
    whole: bool


@dataclass(frozen=True)
class ReadBatch:
    """Items of some files, in their order."""

    files: list[FileRead]
    modalities: list[str]
    """[n], of those that could be read."""
    inputs: dict[str, tuple[Tensor, ...]]
    """By modality, [items of that modality, ...] each: what `Seen` has, stacked in this order."""


ReadWork = Callable[[Sequence[Work], int, Reader], Iterator[ReadBatch]]
"""Files, batch size, reader -> batches of at most as many items."""


def chunks_of(work: Sequence[Work], size: int) -> list[Sequence[Work]]:
    """`size` files each, which one worker reads."""
    return [work[start : start + size] for start in range(0, len(work), size)]


def stream_items(
    chunks: Sequence[Sequence[Work]], read: ReadWork, reader: Reader, *, batch_size: int, workers: int
) -> Iterator[ReadBatch]:
    """Those of every chunk. Of folders they come in order; of shards, each in order, as many at a time as workers.

    InputError: a worker died.
    """
    loader = DataLoader(
        _Stream(chunks, read, reader, batch_size),
        batch_size=None,
        num_workers=min(workers, len(chunks)),
        worker_init_fn=prepare_worker,
    )
    yield from decoded(loader, workers="workers", batch_size="batch_size")


class _Stream(IterableDataset):
    """Each worker takes every n-th chunk."""

    def __init__(self, chunks: Sequence[Sequence[Work]], read: ReadWork, reader: Reader, batch_size: int):
        self.chunks, self.read, self.reader, self.batch_size = chunks, read, reader, batch_size

    def __iter__(self) -> Iterator[ReadBatch]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for chunk in self.chunks[first::step]:
            yield from self.read(chunk, self.batch_size, self.reader)


def read_files(folder: Path, work: Sequence[Work], batch_size: int, reader: Reader) -> Iterator[ReadBatch]:
    """Files below `folder`, each an item: one batch."""
    items = [read_item("", partial(_file_content, folder, os.fsdecode(one.file), reader), reader) for one in work]
    yield _batch([(one, [item], 1, True) for one, item in zip(work, items, strict=True)])


def read_shards(work: Sequence[Work], batch_size: int, reader: Reader) -> Iterator[ReadBatch]:
    """Shards, each of many items."""
    for shard in work:
        items: list[ReadItem] = []
        samples = shard.first
        for sample in read_samples(os.fsdecode(shard.file), start=shard.first):
            if len(items) == batch_size:
                yield _batch([(shard, items, samples, False)])
                items = []
            items.append(read_item(sample.key.partition("/")[2], partial(_sample_content, sample, reader), reader))
            samples = sample.index + 1
        yield _batch([(shard, items, samples, True)])


def _file_content(folder: Path, name: str, reader: Reader) -> tuple[bytes, None]:
    content = read_inside(folder, name, reader.max_bytes)
    reader.check(content, name)
    return content, None


def _sample_content(sample: RawSample, reader: Reader) -> tuple[bytes, str | None]:
    fields = sample.usable()
    try:
        caption = clean_captions(fields, MAX_CAPTION)[0]
    except BadSample:
        caption = None
    return reader.pick(fields), caption


def _batch(files: list[tuple[Work, list[ReadItem], int, bool]]) -> ReadBatch:
    good = [item.seen for _, items, _, _ in files for item in items if item.problem is None]
    of_modality: dict[str, list[tuple[Tensor, ...]]] = {}
    for seen in good:
        of_modality.setdefault(seen.modality, []).append(seen.inputs)
    return ReadBatch(
        [FileRead(work, [replace(item, seen=None) for item in items], *rest) for work, items, *rest in files],
        [seen.modality for seen in good],
        {name: tuple(map(torch.stack, zip(*inputs, strict=True))) for name, inputs in of_modality.items()},
    )
