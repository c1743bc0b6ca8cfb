"""Where a rank's loader is, as a checkpoint keeps it."""

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

from tcl.data.feed.sample_order import Leftovers, Source, WorkerPosition
from tcl.data.shards.plan import Range
from tcl.data.shards.read_shard import is_remote, shard_name


@dataclass(frozen=True)
class DataIdentity:
    """What the order of samples depends on: a position means nothing where these differ."""

    seed: int
    shuffle_buffer: int
    sources: tuple[tuple[int, int, int], ...]
    """Of each source: shards, samples, and a checksum of the shards' names and sizes (not their folders)."""
    digests: tuple[str, ...] = ()
    """Of each source: the digests of its shards' files, one after the other. In the state of rank 0 for all ranks;
    empty in that of others, and in checkpoints from before there were any."""


def identify(sources: list[Source], seed: int, shuffle_buffer: int, *, with_digests: bool = False) -> DataIdentity:
    """The identity of `sources` read with that seed and shuffle buffer; with_digests: of their files as well."""
    described = []
    for source in sources:
        names = "\n".join(f"{shard_name(shard.url)} {shard.size}" for shard in source.shards)
        described.append((len(source.shards), source.samples, zlib.crc32(names.encode())))
    return DataIdentity(seed, shuffle_buffer, tuple(described), _digests(sources) if with_digests else ())


_UNKNOWN = "-" * 8
"""Digest of a shard that is not a file here, or cannot be read."""
_BLOCK_BYTES = 16 << 10


def _digests(sources: list[Source]) -> tuple[str, ...]:
    with ThreadPoolExecutor(16) as pool:
        return tuple("".join(pool.map(lambda shard: _digest(shard.url), source.shards)) for source in sources)


def _digest(url: str) -> str:
    """8 characters that tell a file from another in its place: of its bytes in number, and of a block of them at its
    head, middle and tail. To read all would cost as much as an epoch."""
    if is_remote(url):
        return _UNKNOWN
    try:
        with open(url, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            checksum = zlib.crc32(str(size).encode())
            for place in (0, size // 2, max(size - _BLOCK_BYTES, 0)):  # a tar may end in 10 KiB of zeros
                checksum = zlib.crc32(os.pread(file.fileno(), _BLOCK_BYTES, place), checksum)
    except OSError:
        return _UNKNOWN
    return f"{checksum:08x}"


def changed_shard(there: DataIdentity, here: DataIdentity, sources: list[Source]) -> str | None:
    """The first of the shards of `sources`, which `here` identifies, that is another file than it was `there`."""
    for source, was, now in zip(sources, there.digests, here.digests, strict=False):
        for i, shard in enumerate(source.shards):
            former, digest = was[8 * i : 8 * i + 8], now[8 * i : 8 * i + 8]
            if former != digest and _UNKNOWN not in (former, digest) and former:
                return shard.url
    return None


KeptLeftovers = tuple[tuple[int, int, tuple[Range, ...]], ...]
"""(source, epoch, ranges) of each entry of Leftovers."""


def as_kept(leftovers: Leftovers) -> KeptLeftovers:
    """`leftovers` in the form of a LoaderState."""
    return tuple((source, epoch, tuple(ranges)) for (source, epoch), ranges in leftovers.items())


@dataclass(frozen=True)
class LoaderState:
    """After the last batch handed out: its workers' positions, whose turn is next, and what was met on the way."""

    workers: tuple[WorkerPosition, ...]
    next_worker: int
    data: DataIdentity
    leftovers: KeptLeftovers = ()
    """What changes of layout left, in the state of rank 0 for all ranks."""
    bad: dict[str, int] = field(default_factory=dict)
    """Samples not usable, by cause, since the start of the run."""
    bad_in_epoch: dict[str, int] = field(default_factory=dict)
    """Of these, since the last report."""
    seen: dict[int, int] = field(default_factory=dict)
    """Distinct samples handed out, by the epoch of their source; of the last few epochs."""

    def leftovers_by_epoch(self) -> Leftovers:
        return {(source, epoch): list(ranges) for source, epoch, ranges in self.leftovers}

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"seen": list(self.seen.items())}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "LoaderState":
        data = value["data"]
        return LoaderState(
            workers=tuple(WorkerPosition.from_json(position) for position in value["workers"]),
            next_worker=value["next_worker"],
            data=DataIdentity(
                data["seed"],
                data["shuffle_buffer"],
                tuple(tuple(source) for source in data["sources"]),
                tuple(data.get("digests", ())),
            ),
            leftovers=tuple(
                (source, epoch, tuple(Range(*r) for r in ranges)) for source, epoch, ranges in value["leftovers"]
            ),
            bad=value["bad"],
            bad_in_epoch=value["bad_in_epoch"],
            seen=dict(value["seen"]),
        )
