"""What one worker reads: order, positions, weights, and shards that break."""

import json
import math
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
from data_files import pair, pairs, write_shards, write_tar

from tcl.data.feed.sample_order import Part, Position, Source, WorkerPosition, worker_stream
from tcl.data.shards import read_shard
from tcl.data.shards.list_shards import Shard, open_shards
from tcl.data.shards.read_shard import DUPLICATE, NO_EXTENSION, TOO_MANY, TRUNCATED, UNREADABLE, read_samples

ALONE = Part(0, 1)


def fresh(sources: list[Source]) -> WorkerPosition:
    return WorkerPosition(tuple(Position() for _ in sources))


def stream(sources, part=ALONE, seed=0, shuffle_buffer=8, start=None, **options):
    start = start or fresh(sources)
    return worker_stream(sources, part, seed=seed, shuffle_buffer=shuffle_buffer, start=start, **options)


def keys(visits, count: int) -> list[tuple[int, str]]:
    return [(visit.epoch, visit.sample.key) for visit, _ in islice(visits, count)]


@pytest.fixture
def source(tmp_path) -> Source:
    return Source(open_shards(write_shards(tmp_path, [7, 1, 12, 5])))


def test_each_epoch_holds_every_sample_once_in_another_order(source):
    read = keys(stream([source]), 75)
    epochs = [[key for epoch, key in read if epoch == e] for e in range(3)]
    everything = sorted(f"00000{s}.tar/s{s}_{i:04d}" for s, n in enumerate([7, 1, 12, 5]) for i in range(n))
    assert [sorted(epoch) for epoch in epochs] == [everything] * 3
    assert epochs[0] != epochs[1] != epochs[2]


def test_same_seed_same_order(source):
    assert keys(stream([source]), 60) == keys(stream([source]), 60)
    assert keys(stream([source]), 60) != keys(stream([source], seed=1), 60)


def test_samples_of_a_block_are_shuffled(tmp_path):
    only = Source(open_shards(write_shards(tmp_path, [40])))
    read = [visit.sample.index for visit, _ in islice(stream([only], shuffle_buffer=10), 40)]
    blocks = [read[i : i + 10] for i in range(0, 40, 10)]
    assert [sorted(block) for block in blocks] == [list(range(i, i + 10)) for i in range(0, 40, 10)]
    assert all(block != sorted(block) for block in blocks)
    assert len({tuple(i % 10 for i in block) for block in blocks}) == 4, "each block in an order of its own"


def test_without_a_buffer_samples_come_in_the_order_of_the_tar(tmp_path):
    only = Source(open_shards(write_shards(tmp_path, [9])))
    assert [visit.sample.index for visit, _ in islice(stream([only], shuffle_buffer=1), 9)] == list(range(9))


@pytest.mark.parametrize("weights", [(1.0,), (3.0, 1.0)])
def test_every_position_continues_exactly(tmp_path, weights):
    sources = [Source(open_shards(write_shards(tmp_path / str(i), [5, 8])), weight) for i, weight in enumerate(weights)]
    whole = list(islice(stream(sources, shuffle_buffer=4), 60))
    for done in range(45):
        position = whole[done - 1][1] if done else fresh(sources)
        position = WorkerPosition.from_json(json.loads(json.dumps(position.to_json())))
        again = islice(stream(sources, shuffle_buffer=4, start=position), 15)
        for (visit, after), (visit_again, after_again) in zip(whole[done:], again, strict=False):
            assert visit == visit_again
            assert after == after_again


def test_starting_late_opens_only_the_shards_that_are_left(source):
    opened: list[int] = []
    start = WorkerPosition((Position(epoch=0, sample=24),))
    list(islice(stream([source], start=start, on_shard=lambda _, shard: opened.append(shard)), 1))
    last_shard_of_epoch_0 = list(islice(stream([source], shuffle_buffer=1), 25))[-1][0].shard
    assert opened == [last_shard_of_epoch_0]


def test_two_parts_share_a_shard_without_sharing_samples(tmp_path):
    only = Source(open_shards(write_shards(tmp_path, [11])))
    read = [key for part in range(3) for key in keys(stream([only], Part(part, 3)), 4)]
    first_epoch = Counter(key for epoch, key in read if epoch == 0)
    assert first_epoch == Counter({f"000000.tar/s0_{i:04d}": 1 for i in range(11)})


def test_weights_give_shares(tmp_path):
    heavy, light = (Source(open_shards(write_shards(tmp_path / name, [4])), w) for name, w in (("a", 3.0), ("b", 1.0)))
    n = 2000
    drawn = Counter(visit.source for visit, _ in islice(stream([heavy, light]), n))
    assert abs(drawn[0] - 0.75 * n) < 4 * math.sqrt(n * 0.75 * 0.25)


def test_parts_draw_their_sources_independently(tmp_path):
    sources = [Source(open_shards(write_shards(tmp_path / name, [4])), 1.0) for name in "ab"]
    draws = [[v.source for v, _ in islice(stream(sources, Part(part, 2)), 50)] for part in range(2)]
    assert draws[0] != draws[1]


# Shards that break off or lie


def read(path: Path, stop: int | None = None, **options) -> list[tuple[str, str | None]]:
    return [(s.key, s.problem) for s in read_samples(str(path), stop=stop, **options)]


@pytest.fixture
def tar(tmp_path) -> Path:
    """Three samples; entries of 512 bytes of header and content each, images padded to whole blocks."""
    return write_tar(tmp_path / "0.tar", pairs("a", 3))


def header_offset(path: Path, name: str) -> int:
    """Where the header of entry `name` begins."""
    return path.read_bytes().index(name.encode() + b"\0")


def test_whole(tar):
    assert read(tar) == read(tar, 3, size=3) == [(f"0.tar/a{i:04d}", None) for i in range(3)]


def test_range(tar):
    assert [s.key for s in read_samples(str(tar), 1, 2)] == ["0.tar/a0001"]


def test_truncated_within_an_image(tar):
    tar.write_bytes(tar.read_bytes()[: header_offset(tar, "a0001.jpg") + 512 + 100])
    assert read(tar, 3) == [("0.tar/a0000", None), ("0.tar/#1", TRUNCATED), ("0.tar/#2", TRUNCATED)]
    assert read(tar) == [("0.tar/a0000", None), ("0.tar/#1", TRUNCATED)]


def test_truncated_within_a_header(tar):
    """tarfile itself takes this for the end of the archive."""
    tar.write_bytes(tar.read_bytes()[: header_offset(tar, "a0001.jpg") + 100])
    assert read(tar, 3) == [("0.tar/a0000", None), ("0.tar/#1", TRUNCATED), ("0.tar/#2", TRUNCATED)]


def test_garbage_within_the_tar(tar):
    content = bytearray(tar.read_bytes())
    at = header_offset(tar, "a0001.jpg")
    content[at : at + 512] = b"\xff" * 512
    tar.write_bytes(content)
    assert read(tar, 3) == [("0.tar/a0000", None), ("0.tar/#1", TRUNCATED), ("0.tar/#2", TRUNCATED)]


@pytest.mark.parametrize("content", [b"", b"<html>404</html>" * 100])
def test_not_a_tar(tmp_path, content):
    (tmp_path / "0.tar").write_bytes(content)
    assert read(tmp_path / "0.tar", 2) == [("0.tar/#0", UNREADABLE), ("0.tar/#1", UNREADABLE)]


def test_missing_file_and_unreadable_folder(tmp_path):
    assert read(tmp_path / "0.tar", 1) == [("0.tar/#0", UNREADABLE)]
    assert read(tmp_path, 1) == [(f"{tmp_path.name}/#0", UNREADABLE)]


def test_fewer_samples_than_counted(tar):
    assert read(tar, 5)[2:] == [("0.tar/a0002", None), ("0.tar/#3", TRUNCATED), ("0.tar/#4", TRUNCATED)]


def test_more_samples_than_counted_are_noted_once_by_the_part_that_reads_the_end(tar):
    samples = list(read_samples(str(tar), 0, 2, size=2))
    assert [s.notices for s in samples] == [[], [(TOO_MANY, "0.tar/a0001")]]
    assert [s.notices for s in read_samples(str(tar), 0, 1, size=2)] == [[]]


def test_duplicate_name(tmp_path):
    path = write_tar(tmp_path / "0.tar", [*pair("a"), ("b.jpg", b"1"), ("b.txt", b"x"), ("b.JPG", b"2"), *pair("c")])
    assert read(path, 3) == [("0.tar/a", None), ("0.tar/b", DUPLICATE), ("0.tar/c", None)]


def test_entry_without_extension_is_noted_and_is_no_sample(tmp_path):
    path = write_tar(tmp_path / "0.tar", [*pair("a"), ("LICENSE", b"free"), *pair("b"), *pair("c")])
    samples = list(read_samples(str(path), 0, 3))
    assert [s.key for s in samples] == ["0.tar/a", "0.tar/b", "0.tar/c"]
    assert [notice for s in samples for notice in s.notices] == [(NO_EXTENSION, "0.tar/LICENSE")]
    both_parts = [*read_samples(str(path), 0, 1), *read_samples(str(path), 1, 3)]
    assert [notice for s in both_parts for notice in s.notices] == [(NO_EXTENSION, "0.tar/LICENSE")]


def test_a_broken_shard_does_not_stop_the_stream(tmp_path):
    write_shards(tmp_path, [3, 3])
    (tmp_path / "000000.tar").write_bytes(b"")
    visits = [visit for visit, _ in islice(stream([Source(open_shards(f"{tmp_path}/*.tar"))]), 12)]
    problems = Counter((visit.epoch, visit.shard, visit.sample.problem) for visit in visits)
    assert problems == {(e, s, p): 3 for e in (0, 1) for s, p in ((0, UNREADABLE), (1, None))}


# Remote shards, read through a command


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr(read_shard, "RETRY_SECONDS", (0, 0))


def test_remote_shard(tar):
    assert [s.key for s in read_samples(f"pipe:cat {tar}", 0, 3)] == [f"0.tar/a{i:04d}" for i in range(3)]


@pytest.mark.parametrize("status", [0, 1])
def test_remote_read_error_is_retried_where_it_broke_off(tar, tmp_path, no_waiting, status):
    """The first attempt delivers the shard up to a header, and fails or says it went well; the second delivers all."""
    half = header_offset(tar, "a0001.txt") + 100
    first, second = f"head -c {half} {tar}; exit {status}", f"cat {tar}"
    command = f"if test -e {tmp_path}/again; then {second}; else touch {tmp_path}/again; {first}; fi"
    samples = list(read_samples(f"pipe:{command}", 0, 3))
    assert [(s.index, s.problem) for s in samples] == [(0, None), (1, None), (2, None)]
    assert [s.fields for s in samples] == [s.fields for s in read_samples(str(tar))]


def test_remote_shard_that_stays_away(tar, tmp_path, no_waiting):
    command = f"echo x >> {tmp_path}/attempts; exit 22 # {tar}"
    assert [s.problem for s in read_samples(f"pipe:{command}", 0, 2)] == [UNREADABLE] * 2
    assert (tmp_path / "attempts").read_text() == "x\n" * 3


def test_reading_part_of_a_remote_shard_leaves_quietly(tmp_path):
    path = write_tar(tmp_path / "big.tar", [("a.bin", bytes(100)), ("b.bin", bytes(3_000_000))])
    assert [s.problem for s in read_samples(f"pipe:cat {path}", 0, 1)] == [None]


def test_shards_of_no_samples_are_harmless(tmp_path):
    write_tar(tmp_path / "0.tar", [])
    write_tar(tmp_path / "1.tar", pairs("b", 2))
    shards = open_shards(f"{tmp_path}/*.tar")
    assert shards == [Shard(f"{tmp_path}/0.tar", 0), Shard(f"{tmp_path}/1.tar", 2)]
    assert sorted(keys(stream([Source(shards)]), 2)) == [(0, "1.tar/b0000"), (0, "1.tar/b0001")]
