"""Which samples of which shards each worker reads in an epoch: a pure function.

The shards, permuted anew each epoch, form one sequence of N samples; it is cut into contiguous pieces of equal size,
one per worker of every rank. Two pieces may share a shard, so a few shards serve any number of workers, nobody starves,
and every sample is in exactly one piece.
"""

from bisect import bisect_right
from itertools import accumulate
from typing import NamedTuple

from tcl.data.seeding import permutation


class Range(NamedTuple):
    """Samples start .. stop - 1 of one shard."""

    shard: int
    start: int
    stop: int


def epoch_order(sizes: list[int], seed: int, epoch: int) -> list[Range]:
    """The whole shards in the order of an epoch; sizes: samples per shard, >= 0."""
    return [Range(shard, 0, sizes[shard]) for shard in permutation(len(sizes), seed, "shards", epoch)]


def cut(ranges: list[Range], part: int, parts: int) -> list[Range]:
    """Piece `part` (0 to parts - 1) of the sequence of samples that `ranges` make, in reading order; none is empty.

    Pieces differ by at most one sample in size.
    """
    return _piece(ranges, _ends(ranges), part, parts)


def cut_all(ranges: list[Range], parts: int) -> list[list[Range]]:
    """All `parts` pieces that `cut` makes."""
    ends = _ends(ranges)
    return [_piece(ranges, ends, part, parts) for part in range(parts)]


def _ends(ranges: list[Range]) -> list[int]:
    """How many samples there are up to the end of each range."""
    return list(accumulate(r.stop - r.start for r in ranges))


def _piece(ranges: list[Range], ends: list[int], part: int, parts: int) -> list[Range]:
    total = ends[-1] if ends else 0
    first, last = total * part // parts, total * (part + 1) // parts

    piece = []
    place = bisect_right(ends, first)
    while first < last:
        whole = ranges[place]
        begin = whole.stop - ends[place]
        stop = min(last, ends[place])
        if stop > first:
            piece.append(Range(whole.shard, first + begin, stop + begin))
        first = stop
        place += 1
    return piece


def skip_samples(ranges: list[Range], count: int) -> list[Range]:
    """`ranges` without their first `count` samples (>= 0)."""
    left = []
    for r in ranges:
        skipped = min(count, r.stop - r.start)
        count -= skipped
        if r.start + skipped < r.stop:
            left.append(Range(r.shard, r.start + skipped, r.stop))
    return left
