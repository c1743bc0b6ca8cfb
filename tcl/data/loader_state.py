"""Where a rank's loader is, as a checkpoint keeps it."""

import zlib
from dataclasses import asdict, dataclass, field
from typing import Any

from tcl.data.plan import Range
from tcl.data.read_shard import shard_name
from tcl.data.stream import Leftovers, Source, WorkerPosition


@dataclass(frozen=True)
class DataIdentity:
    """What the order of samples depends on: a position means nothing where these differ."""

    seed: int
    shuffle_buffer: int
    sources: tuple[tuple[int, int, int], ...]
    """Of each source: shards, samples, and a checksum of the shards' names and sizes (not their folders)."""


def identify(sources: list[Source], seed: int, shuffle_buffer: int) -> DataIdentity:
    """The identity of `sources` read with that seed and shuffle buffer."""
    described = []
    for source in sources:
        names = "\n".join(f"{shard_name(shard.url)} {shard.size}" for shard in source.shards)
        described.append((len(source.shards), source.samples, zlib.crc32(names.encode())))
    return DataIdentity(seed, shuffle_buffer, tuple(described))


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
            data=DataIdentity(data["seed"], data["shuffle_buffer"], tuple(tuple(source) for source in data["sources"])),
            leftovers=tuple(
                (source, epoch, tuple(Range(*r) for r in ranges)) for source, epoch, ranges in value["leftovers"]
            ),
            bad=value["bad"],
            bad_in_epoch=value["bad_in_epoch"],
            seen=dict(value["seen"]),
        )
