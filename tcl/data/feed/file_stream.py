"""Files that people have, or what is in their shards, one after the other, decoded by worker processes.

A million of them take no more memory than the few batches that are under way.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from tcl.data.feed.worker_process import decoded, prepare_worker
from tcl.data.shards.bad_sample import BadSample, Skipped, reading
from tcl.data.shards.list_shards import shard_labels
from tcl.data.shards.read_shard import read_samples
from tcl.data.shards.shard_bytes import NoRegularFileError, open_file
from tcl.data.texts.captions import spelt_out
from tcl.errors import InputError

UNREADABLE = "file cannot be read"
LINKED_FOLDER = "folder behind a link, not entered"
NO_FILE = "device, pipe or socket, not read"
"""Causes of a skipped file, beside one that is too large and those of whoever decodes it."""

START = 1024
"""Bytes that tell what a file is."""
Check = Callable[[bytes, str], None]
"""The first bytes and the name of a file -> BadSample, where neither says that it is of the wanted kind."""
Pick = Callable[[dict[str, bytes]], Any]
"""A sample's bytes by extension -> what is decoded of it; it can be pickled. BadSample: nothing."""
Decode = Callable[[Any], tuple[Tensor, ...]]
"""The bytes of one, or what was picked of a sample -> what a network takes of it, without the batch; it can be pickled.
BadSample: unusable."""


class Encoded(NamedTuple):
    """The bytes of an image, a video or a sound, or what was picked of a sample; or the problem that kept them from
    being read."""

    id: str
    content: Any
    problem: str | None = None


@dataclass(frozen=True)
class Files:
    """Those of a folder hold one each, shards many."""

    paths: list[str]
    read: Callable[[str], Iterator[Encoded]]
    """What is in one of them."""


@dataclass(frozen=True)
class FileBatch:
    """b of them (b may be 0), and those that were skipped on the way to them."""

    ids: list[str]
    places: list[tuple[int, int]]
    """[b], (number of the file, number in the file): ascending, they are the order of the source."""
    inputs: tuple[Tensor, ...]
    """[b, ...] each, stacked, of what was decoded; () where b is 0."""
    skipped: list[Skipped]


def files_of_folder(folder: Path, what: str, accepted: str, check: Check, max_bytes: int) -> Files:
    """All files below `folder`, in the order of their names; ids are paths relative to it. Larger ones than max_bytes
    have a problem, as those that `check` refuses.

    Folders that are links are not entered. InputError, naming the option `what`: no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise InputError(f"{what}: {folder} is no folder; give one that holds {what}")
    closed: list[str] = []
    found: list[str] = []
    for place, folders, names in os.walk(folder, onerror=lambda error: closed.append(error.filename)):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        found += [os.path.join(place, name) for name in names + links]
    paths = sorted(found + closed)
    if not paths:
        raise InputError(f"{what}: {folder} holds no {what}; accepted: {accepted}")
    return Files(paths, partial(_read_file, folder, check, max_bytes))


def files_of_shards(urls: Sequence[str], pick: Pick) -> Files:
    """What `pick` takes of each sample; ids are '<shard name>/<sample key>', with the whole path where two shards share
    a name."""
    return Files(list(urls), partial(_read_shard, shard_labels(urls), pick))


def stream_files(files: Files, decode: Decode, *, batch_size: int, workers: int) -> Iterator[FileBatch]:
    """Batches of at most batch_size (>= 1); the order of files depends on `workers` (processes, >= 0). InputError: a
    worker died."""
    loader = DataLoader(
        _Stream(files, decode),
        batch_size=batch_size,
        num_workers=min(workers, len(files.paths)),
        collate_fn=_collate,
        worker_init_fn=prepare_worker,
    )
    yield from decoded(loader, workers="workers", batch_size="batch_size")


class _Decoded(NamedTuple):
    id: str
    place: tuple[int, int]
    inputs: tuple[Tensor, ...]
    problem: str | None


class _Stream(IterableDataset):
    """Each worker takes every n-th file."""

    def __init__(self, files: Files, decode: Decode):
        self.files, self.decode = files, decode

    def __iter__(self) -> Iterator[_Decoded]:
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for number in range(first, len(self.files.paths), step):
            for i, one in enumerate(self.files.read(self.files.paths[number])):
                yield self._decode(one, (number, i))

    def _decode(self, one: Encoded, place: tuple[int, int]) -> _Decoded:
        try:
            if one.problem is not None:
                raise BadSample(one.problem)
            with reading():
                return _Decoded(one.id, place, self.decode(one.content), None)
        except BadSample as cause:
            return _Decoded(one.id, place, (), str(cause))


def _collate(found: list[_Decoded]) -> FileBatch:
    good = [one for one in found if one.problem is None]
    return FileBatch(
        [one.id for one in good],
        [one.place for one in good],
        tuple(torch.stack(of_network) for of_network in zip(*(one.inputs for one in good), strict=True)),
        [Skipped(one.id, one.problem) for one in found if one.problem is not None],
    )


def _read_file(folder: Path, check: Check, max_bytes: int, path: str) -> Iterator[Encoded]:
    name = spelt_out(Path(path).relative_to(folder).as_posix())
    try:
        yield Encoded(name, _content(path, check, max_bytes))
    except BadSample as cause:
        yield Encoded(name, None, str(cause))


def _read_shard(labels: dict[str, str], pick: Pick, url: str) -> Iterator[Encoded]:
    for sample in read_samples(url):
        name = f"{labels[url]}/{sample.key.partition('/')[2]}"
        try:
            yield Encoded(name, pick(sample.usable()))
        except BadSample as cause:
            yield Encoded(name, None, str(cause))


def _content(path: str, check: Check, max_bytes: int) -> bytes:
    try:
        if os.path.isdir(path) and os.path.islink(path):
            raise BadSample(LINKED_FOLDER)
        with open_file(path) as file:
            start = file.read(START)
            check(start, path)
            rest = file.read(max_bytes)
    except NoRegularFileError as error:
        raise BadSample(NO_FILE) from error
    except OSError as error:
        raise BadSample(UNREADABLE) from error
    if len(start) + len(rest) > max_bytes:
        raise BadSample(f"file of more than {max_bytes:,} bytes")
    return start + rest
