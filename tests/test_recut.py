"""Going on with other numbers of ranks and workers: the rest of an epoch comes once, whatever the changes."""

import json
from collections import Counter
from itertools import islice

import pytest
from data_files import config, loader, write_shards
from hypothesis import given
from hypothesis import strategies as st

from tcl.config.data import SourceConfig
from tcl.data.feed.loader_state import LoaderState
from tcl.data.feed.recut import recut
from tcl.data.feed.sample_order import Part, Position, Source, WorkerPosition, block_order, block_size, epoch_ranges
from tcl.data.shards.list_shards import Shard
from tcl.data.shards.plan import Range, cut
from tcl.errors import InputError


def handed_out(source: Source, index: int, epoch: int, part: Part, leftovers, seed: int, block: int) -> list:
    """The (shard, index) of a worker's piece in the order in which it hands them out, spelled out."""
    ranges = cut(epoch_ranges(source, index, epoch, seed, leftovers), part.part, part.parts)
    samples = [(r.shard, i) for r in ranges for i in range(r.start, r.stop)]
    order = []
    for number, begin in enumerate(range(0, len(samples), block)):
        held = samples[begin : begin + block]
        order += [held[place] for place in block_order(len(held), index, epoch, part, seed, number)]
    return order


@given(
    st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=5), min_size=1, max_size=2),
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.integers(1, 20),
    st.integers(0, 99),
    st.data(),
)
def test_every_sample_of_an_epoch_comes_once_over_any_changes(sizes, layouts, shuffle_buffer, seed, data):
    sources = [Source([Shard(f"{i}", size) for i, size in enumerate(shards)]) for shards in sizes]
    block = block_size(shuffle_buffer, len(sources))
    leftovers, start = {}, WorkerPosition(tuple(Position() for _ in sources))
    came: list[Counter] = [Counter() for _ in sources]
    for parts in layouts:
        positions = []
        for number in range(parts):
            own = []
            for index, source in enumerate(sources):
                # Each worker is stopped at a place of its own: in the epoch it began with, or in the one after it.
                epoch, part = start.sources[index].epoch, Part(number, parts)
                this = handed_out(source, index, epoch, part, leftovers, seed, block)
                following = handed_out(source, index, epoch + 1, part, leftovers, seed, block)
                stop = data.draw(st.integers(0, len(this) + len(following) // 2))
                came[index].update((epoch, *sample) for sample in this[:stop])
                if stop > len(this):
                    came[index].update((epoch + 1, *sample) for sample in following[: stop - len(this)])
                    own.append(Position(epoch + 1, stop - len(this)))
                else:
                    own.append(Position(epoch, stop))
            positions.append(WorkerPosition(tuple(own), data.draw(st.integers(start.draws, start.draws + 50))))
        start, leftovers = recut(sources, positions, leftovers, seed=seed, shuffle_buffer=shuffle_buffer)
        assert start.draws == max(position.draws for position in positions)
    for index, source in enumerate(sources):
        begun = start.sources[index].epoch
        last = max([begun, *(epoch for i, epoch in leftovers if i == index)])
        for epoch in range(begun, last + 1):
            came[index].update((epoch, r.shard, i) for r in leftovers[index, epoch] for i in range(r.start, r.stop))
        every = [(shard, i) for shard, one in enumerate(source.shards) for i in range(one.size)]
        assert came[index] == Counter({(epoch, *sample): 1 for epoch in range(last + 1) for sample in every})


def test_leftover_ranges_are_joined():
    source = Source([Shard("0", 100)])
    start, leftovers = recut(
        [source], [WorkerPosition((Position(0, 10),), 10), WorkerPosition((Position(0, 50),), 50)], {}, seed=0,
        shuffle_buffer=10,
    )  # fmt: skip
    assert leftovers == {(0, 0): [Range(0, 10, 50)]} and start == WorkerPosition((Position(0, 0),), 50)


@pytest.mark.parametrize("weights", [None, (2.0, 1.0)])
@pytest.mark.parametrize("layouts", [[(1, 2), (2, 1), (3, 0)], [(2, 0), (1, 3), (2, 2)], [(1, 1), (1, 2)]])
def test_a_run_that_changes_its_processes_sees_every_sample_of_each_pass_once(tmp_path, layouts, weights):
    """Real worker processes; what all ranks hand out, over several changes, through JSON as in a checkpoint."""
    folders = ("a", "b") if weights else ("a",)
    sources = [
        SourceConfig(write_shards(tmp_path / name, [21, 17, 23]), weight)
        for name, weight in zip(folders, weights or (None,), strict=True)
    ]
    states, seen, notices = None, Counter(), []
    for ranks, workers in [*layouts, layouts[-1]]:
        ranked = [
            loader(config(*sources, workers=workers), batch_size=2, rank=rank, world_size=ranks, start=states)
            for rank in range(ranks)
        ]
        for one in ranked:
            seen.update(key for batch in islice(one, 2) for key in batch.keys)
        notices.append(ranked[0].notice)
        states = [LoaderState.from_json(json.loads(json.dumps(one.state.to_json()))) for one in ranked]
        assert states == [one.state for one in ranked]
        for one in ranked:
            one.close()
    assert notices[0] is None and notices[-1] is None and all("order of samples differs" in n for n in notices[1:-1])
    if not weights:  # one source: what is still to come of the first pass, and nothing else, has not been seen
        passes = sum(state.seen.get(0, 0) for state in states)
        assert passes == len(seen) == seen.total() <= 61
        rest = loader(config(*sources), batch_size=1, start=states)
        keys = [key for batch in islice(rest, 61 - passes) for key in batch.keys]
        assert not set(keys) & set(seen) and len(set(keys)) == 61 - passes
        assert rest.seen[0] == 61


def test_bad_counts_and_seen_samples_go_on_after_a_change(tmp_path):
    data = config(write_shards(tmp_path, [20]))
    ranked = [loader(data, batch_size=4, rank=rank, world_size=2) for rank in range(2)]
    for one in ranked:
        next(one)
    states = [one.state for one in ranked]
    states = [LoaderState.from_json(state.to_json() | {"bad": {"x": 1}, "bad_in_epoch": {"x": 1}}) for state in states]
    alone = loader(data, batch_size=4, start=states)
    next(alone)
    assert alone.seen[0] == 12 and alone.state.bad == {"x": 2}
    assert alone.end_epoch() == {"x": 2} and alone.end_epoch() == {}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": 1}, r"^seed: 1, but the checkpoint's place in the data was reached with 0; "),
        ({"shuffle_buffer": 9}, r"^data\.shuffle_buffer: 9, but .* with 8; "),
        ({"sizes": [20, 6]}, r"^data\.train: names or sizes .* \(2 shards of 25 samples there, 2 shards of 26 samples"),
    ],
)
def test_a_position_in_other_data_is_refused(tmp_path, changed, said):
    state = loader(config(write_shards(tmp_path / "old", [20, 5]))).state
    shards = write_shards(tmp_path / "new", changed.pop("sizes", [20, 5]))
    seed = changed.pop("seed", 0)
    with pytest.raises(InputError, match=said):
        loader(config(shards, **changed), seed=seed, start=[state])


def test_shards_may_move(tmp_path):
    state = loader(config(write_shards(tmp_path / "old", [20, 5]))).state
    assert loader(config(write_shards(tmp_path / "new", [20, 5])), start=[state]).notice is None


def test_leftovers_of_passes_that_are_over_are_dropped(tmp_path):
    data = config(write_shards(tmp_path, [12]))
    first = loader(data, batch_size=2)
    next(first)
    other = loader(data, batch_size=2, rank=0, world_size=2, start=[first.state])
    states = [other.state, loader(data, batch_size=2, rank=1, world_size=2, start=[first.state]).state]
    assert [epoch for _, epoch, _ in states[0].leftovers] == [0] and not states[1].leftovers
    later = []
    for rank in range(2):
        one = loader(data, batch_size=2, rank=rank, world_size=2, start=states)
        for _ in range(4):
            next(one)
        later.append(one.state)
    assert loader(data, batch_size=2, rank=0, world_size=2, start=later).state.leftovers == ()
