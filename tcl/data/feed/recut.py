"""Going on with another number of ranks or workers: what is left of the epoch is cut anew among them."""

from itertools import groupby

from tcl.data.feed.sample_order import (
    Leftovers,
    Part,
    Position,
    Source,
    WorkerPosition,
    block_order,
    block_size,
    epoch_ranges,
)
from tcl.data.shards.plan import Range, cut_all, skip_samples


def recut(
    sources: list[Source], positions: list[WorkerPosition], leftovers: Leftovers, *, seed: int, shuffle_buffer: int
) -> tuple[WorkerPosition, Leftovers]:
    """What all workers of the new layout start from: a position, the same for each, and the leftovers.

    positions: of all workers of the old layout, rank by rank; leftovers: theirs. Of each source, the epochs that any
    old worker had begun are finished first, the earliest before the next: samples that were handed out do not come
    again in them, and every other one comes exactly once. `draws` starts beyond all that were made, so that no choice
    that depends on it is made twice.
    """
    block = block_size(shuffle_buffer, len(sources))
    starts, left = [], {}
    for index, source in enumerate(sources):
        own = [position.sources[index] for position in positions]
        first = min(p.epoch for p in own)
        last = max([*(p.epoch for p in own), *(epoch for of, epoch in leftovers if of == index)])
        starts.append(Position(first))
        for epoch in range(first, last + 1):
            pieces = cut_all(epoch_ranges(source, index, epoch, seed, leftovers), len(positions))
            left[index, epoch] = _joined(
                [
                    unread
                    for number, (ranges, position) in enumerate(zip(pieces, own, strict=True))
                    for unread in _left(ranges, index, epoch, Part(number, len(own)), position, seed, block)
                ]
            )
    return WorkerPosition(tuple(starts), max(position.draws for position in positions)), left


def still_to_come(leftovers: Leftovers, positions: list[WorkerPosition]) -> Leftovers:
    """`leftovers` without the epochs that all workers of the layout, which are at `positions`, have left behind."""
    return {
        (index, epoch): ranges
        for (index, epoch), ranges in leftovers.items()
        if any(position.sources[index].epoch <= epoch for position in positions)
    }


def _left(
    ranges: list[Range], index: int, epoch: int, part: Part, position: Position, seed: int, block: int
) -> list[Range]:
    """What the worker `part` at `position` had not handed out of `ranges`, its piece of `epoch`."""
    if epoch < position.epoch:
        return []
    if epoch > position.epoch:
        return ranges
    number, handed_out = divmod(position.sample, block)
    begun = _first(skip_samples(ranges, number * block), block)
    order = block_order(len(begun), index, epoch, part, seed, number)
    unread = [begun[place] for place in sorted(order[handed_out:])]
    return unread + skip_samples(ranges, (number + 1) * block)


def _first(ranges: list[Range], count: int) -> list[Range]:
    """The first `count` samples of `ranges`, a range each."""
    single = (Range(r.shard, at, at + 1) for r in ranges for at in range(r.start, r.stop))
    return [sample for sample, _ in zip(single, range(count), strict=False)]


def _joined(ranges: list[Range]) -> list[Range]:
    """The same samples in fewer ranges, shard by shard, so that no shard is opened twice without need."""
    joined: list[Range] = []
    by_shard = {shard: sorted(group) for shard, group in groupby(sorted(ranges), key=lambda r: r.shard)}
    for shard in dict.fromkeys(r.shard for r in ranges):
        for r in by_shard[shard]:
            if joined and joined[-1].shard == shard and joined[-1].stop == r.start:
                joined[-1] = Range(shard, joined[-1].start, r.stop)
            else:
                joined.append(r)
    return joined
