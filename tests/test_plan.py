"""Which samples each worker reads: the epoch plan."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tcl.data.shards.plan import Range, cut, epoch_order, skip_samples

sizes = st.lists(st.integers(0, 40), min_size=1, max_size=12)
seeds = st.integers(0, 2**32)
epochs = st.integers(0, 1000)
parts = st.integers(1, 20)


def epoch_plan(sizes: list[int], seed: int, epoch: int, part: int, parts: int) -> list[Range]:
    return cut(epoch_order(sizes, seed, epoch), part, parts)


def samples(ranges: list[Range]) -> list[tuple[int, int]]:
    return [(r.shard, index) for r in ranges for index in range(r.start, r.stop)]


@given(sizes, seeds, epochs, parts)
def test_every_sample_is_in_exactly_one_piece(sizes, seed, epoch, parts):
    read = Counter(s for part in range(parts) for s in samples(epoch_plan(sizes, seed, epoch, part, parts)))
    assert read == Counter({(shard, i): 1 for shard, size in enumerate(sizes) for i in range(size)})


@given(sizes, seeds, epochs, parts)
def test_pieces_are_of_equal_size(sizes, seed, epoch, parts):
    lengths = [len(samples(epoch_plan(sizes, seed, epoch, part, parts))) for part in range(parts)]
    assert max(lengths) - min(lengths) <= 1


@given(sizes, seeds, epochs, parts)
def test_ranges_are_within_their_shards_and_not_empty(sizes, seed, epoch, parts):
    for part in range(parts):
        for shard, start, stop in epoch_plan(sizes, seed, epoch, part, parts):
            assert 0 <= start < stop <= sizes[shard]


@given(sizes, seeds, epochs, parts)
def test_a_piece_opens_few_shards(sizes, seed, epoch, parts):
    """All pieces together open each shard once, and again at each of the parts - 1 borders at most."""
    opened = sum(len(epoch_plan(sizes, seed, epoch, part, parts)) for part in range(parts))
    assert opened <= sum(size > 0 for size in sizes) + parts - 1


@given(sizes, seeds, epochs, parts, st.integers(0, 600))
def test_skipping(sizes, seed, epoch, parts, count):
    ranges = epoch_plan(sizes, seed, epoch, 0, parts)
    left = skip_samples(ranges, count)
    assert samples(left) == samples(ranges)[count:]
    assert all(r.start < r.stop for r in left)


def test_order_of_shards_differs_by_epoch_and_seed_only():
    sizes = [10] * 50
    plan = epoch_plan(sizes, 0, 0, 0, 2)
    assert plan == epoch_plan(sizes, 0, 0, 0, 2)
    assert plan != epoch_plan(sizes, 0, 1, 0, 2)
    assert plan != epoch_plan(sizes, 1, 0, 0, 2)


def test_a_rank_sees_other_shards_in_another_epoch():
    first, second = ({r.shard for r in epoch_plan([10] * 50, 0, epoch, 0, 2)} for epoch in (0, 1))
    assert first != second
