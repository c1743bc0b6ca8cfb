"""What one worker reads, in order and for ever; every place in it is a Position from which it can be read on."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import accumulate, chain, count, groupby, islice
from types import MappingProxyType

from tcl.config.data import DataConfig
from tcl.data.seeding import permutation, uniform
from tcl.data.shards.list_shards import Shard
from tcl.data.shards.plan import Range, cut, epoch_order, skip_samples
from tcl.data.shards.read_shard import RawSample, read_samples


@dataclass(frozen=True)
class Source:
    """Shards that are drawn from together, and their share of the draws relative to other sources (> 0)."""

    shards: list[Shard]
    weight: float = 1.0

    @property
    def samples(self) -> int:
        return sum(shard.size for shard in self.shards)


@dataclass(frozen=True)
class Part:
    """One of `parts` equal shares of the data: that of one worker of one rank."""

    part: int
    parts: int


@dataclass(frozen=True)
class Position:
    """Of one worker in one source: samples already handed out in the epoch, usable or not."""

    epoch: int = 0
    sample: int = 0


@dataclass(frozen=True)
class WorkerPosition:
    """Of one worker in all sources, and how many draws it made among them."""

    sources: tuple[Position, ...]
    draws: int = 0

    def to_json(self) -> dict:
        return asdict(self)

    @staticmethod
    def from_json(value: dict) -> "WorkerPosition":
        return WorkerPosition(tuple(Position(**position) for position in value["sources"]), value["draws"])


Leftovers = Mapping[tuple[int, int], list[Range]]
"""What is left of (source, epoch) after a change of layout: that epoch is these ranges and nothing else. The ranges of
a shard follow each other, ascending."""


@dataclass(frozen=True)
class Visit:
    """One sample read in one epoch; (source, epoch, shard, sample.index) is unique in a run and keys its randomness."""

    sample: RawSample
    source: int
    epoch: int
    shard: int
    """Index of the shard in its source."""


OnShard = Callable[[int, int], None]
"""Called with (source, shard) before that shard is opened."""


def worker_stream(
    sources: list[Source],
    part: Part,
    *,
    seed: int,
    shuffle_buffer: int,
    start: WorkerPosition,
    leftovers: Leftovers = MappingProxyType({}),
    on_shard: OnShard = lambda source, shard: None,
    max_sample_bytes: int = DataConfig.max_sample_bytes,
) -> Iterator[tuple[Visit, WorkerPosition]]:
    """The visits of one worker from `start` on, for ever, each with the position after it.

    Which source is drawn from is decided by (seed, part, number of the draw) and the sources' weights. The
    shuffle_buffer (>= 1 samples) is shared among the sources. Every source must hold at least part.parts samples. One
    of more than max_sample_bytes is a problem and is not read.
    """
    block = block_size(shuffle_buffer, len(sources))
    streams = [
        _source_stream(source, i, part, seed, block, start.sources[i], leftovers, on_shard, max_sample_bytes)
        for i, source in enumerate(sources)
    ]
    ends = list(accumulate(source.weight for source in sources))
    positions = list(start.sources)
    for draw in count(start.draws):
        chosen = bisect_right(ends, uniform(seed, "source", part.part, draw) * ends[-1])
        visit, positions[chosen] = next(streams[chosen])
        yield visit, WorkerPosition(tuple(positions), draw + 1)


def block_size(shuffle_buffer: int, sources: int) -> int:
    """Samples of one source that a worker holds and shuffles at a time."""
    return max(1, shuffle_buffer // sources)


def epoch_ranges(source: Source, index: int, epoch: int, seed: int, leftovers: Leftovers) -> list[Range]:
    """What all workers together read of source number `index` in `epoch`, in reading order: they share it by `cut`."""
    if (index, epoch) in leftovers:
        return leftovers[index, epoch]
    return epoch_order([shard.size for shard in source.shards], seed, epoch)


def block_order(length: int, index: int, epoch: int, part: Part, seed: int, number: int) -> list[int]:
    """The order in which the samples of block `number` of a piece are handed out."""
    return permutation(length, seed, "block", index, epoch, part.part, number)


def _source_stream(
    source: Source,
    index: int,
    part: Part,
    seed: int,
    block: int,
    start: Position,
    leftovers: Leftovers,
    on_shard: OnShard,
    max_sample_bytes: int,
) -> Iterator[tuple[Visit, Position]]:
    """Samples are shuffled within blocks of `block`; the next block is read as this one is handed out."""
    skip = start.sample
    for epoch in count(start.epoch):
        ranges = cut(epoch_ranges(source, index, epoch, seed, leftovers), part.part, part.parts)
        number, skip_in_block = divmod(skip, block)
        visits = _read(source, index, epoch, skip_samples(ranges, number * block), on_shard, max_sample_bytes)
        held = list(islice(visits, block))
        while held:
            following: list[Visit] = []
            order = block_order(len(held), index, epoch, part, seed, number)
            for place, chosen in enumerate(order[skip_in_block:], start=skip_in_block):
                yield held[chosen], Position(epoch, number * block + place + 1)
                held[chosen] = None
                following.extend(islice(visits, 1))
            following.extend(islice(visits, block - len(following)))
            held, number, skip_in_block = following, number + 1, 0
        skip = 0


def _read(
    source: Source, index: int, epoch: int, ranges: list[Range], on_shard: OnShard, max_sample_bytes: int
) -> Iterator[Visit]:
    """The samples of `ranges`, in which a shard's own follow each other, ascending: each shard is read through once."""
    for shard, group in groupby(ranges, key=lambda r: r.shard):
        wanted = list(group)
        indices = chain.from_iterable(range(r.start, r.stop) for r in wanted)
        on_shard(index, shard)
        url, size = source.shards[shard].url, source.shards[shard].size
        following = next(indices)
        samples = read_samples(url, wanted[0].start, wanted[-1].stop, size=size, max_sample_bytes=max_sample_bytes)
        for sample in samples:
            if sample.index == following:
                yield Visit(sample, index, epoch, shard)
                following = next(indices, None)
