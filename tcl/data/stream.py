"""What one worker reads, in order and for ever; every place in it is a Position from which it can be read on."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate, count, islice

from tcl.data.plan import Range, epoch_plan, skip_samples
from tcl.data.read_shard import RawSample, read_samples
from tcl.data.seeding import permutation, uniform
from tcl.data.shards import Shard


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
    on_shard: OnShard = lambda source, shard: None,
) -> Iterator[tuple[Visit, WorkerPosition]]:
    """The visits of one worker from `start` on, for ever, each with the position after it.

    Which source is drawn from is decided by (seed, part, number of the draw) and the sources' weights. The
    shuffle_buffer (>= 1 samples) is shared among the sources. Every source must hold at least part.parts samples.
    """
    streams = [
        _source_stream(source, i, part, seed, max(1, shuffle_buffer // len(sources)), start.sources[i], on_shard)
        for i, source in enumerate(sources)
    ]
    ends = list(accumulate(source.weight for source in sources))
    positions = list(start.sources)
    for draw in count(start.draws):
        chosen = bisect_right(ends, uniform(seed, "source", part.part, draw) * ends[-1])
        visit, positions[chosen] = next(streams[chosen])
        yield visit, WorkerPosition(tuple(positions), draw + 1)


def _source_stream(
    source: Source, index: int, part: Part, seed: int, block: int, start: Position, on_shard: OnShard
) -> Iterator[tuple[Visit, Position]]:
    """Samples are shuffled within blocks of `block`; the next block is read as this one is handed out."""
    sizes = [shard.size for shard in source.shards]
    skip = start.sample
    for epoch in count(start.epoch):
        ranges = epoch_plan(sizes, seed, epoch, part.part, part.parts)
        number, skip_in_block = divmod(skip, block)
        visits = _read(source, index, epoch, skip_samples(ranges, number * block), on_shard)
        held = list(islice(visits, block))
        while held:
            following: list[Visit] = []
            order = permutation(len(held), seed, "block", index, epoch, part.part, number)
            for place, chosen in enumerate(order[skip_in_block:], start=skip_in_block):
                yield held[chosen], Position(epoch, number * block + place + 1)
                held[chosen] = None
                following.extend(islice(visits, 1))
            following.extend(islice(visits, block - len(following)))
            held, number, skip_in_block = following, number + 1, 0
        skip = 0


def _read(source: Source, index: int, epoch: int, ranges: list[Range], on_shard: OnShard) -> Iterator[Visit]:
    for shard, start, stop in ranges:
        on_shard(index, shard)
        url, size = source.shards[shard].url, source.shards[shard].size
        for sample in read_samples(url, start, stop, size=size):
            yield Visit(sample, index, epoch, shard)
