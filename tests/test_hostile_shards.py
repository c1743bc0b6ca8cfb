"""Tars that want to be endless, enormous or circular cost no more than their bytes, and lose what is bad in them."""

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import tracemalloc
from collections import Counter

import pytest
from data_files import JPEG, config, loader, pair, pairs, write_tar

from tcl.data.shards import shard_bytes
from tcl.data.shards.list_shards import shard_sizes
from tcl.data.shards.read_shard import (
    CUT_SHORT,
    EXPANDS,
    SPARSE,
    TOO_LARGE_SAMPLE,
    TRUNCATED,
    UNREADABLE,
    read_samples,
)
from tcl.data.shards.tar_entries import MAX_HEADER_BYTES
from tcl.errors import InputError

MIB = 2**20


def header(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, change=lambda block: None) -> bytes:
    """512 bytes, in which change(block) may write what no library would; the checksum is right."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    change(block)
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


def member(name: str, content: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    return header(name, kind, len(content)) + content + bytes(-len(content) % 512)


def good(key: str) -> bytes:
    return b"".join(member(name, content) for name, content in pair(key))


def size_field(value: bytes):
    def change(block: bytearray) -> None:
        block[124:136] = value

    return change


def base_256(number: int) -> bytes:
    return b"\x80" + number.to_bytes(11, "big") if number >= 0 else b"\xff" + (256**11 + number).to_bytes(11, "big")


def sparse(size: int) -> bytes:
    """An old GNU sparse member of `size` bytes, none of which is stored."""

    def change(block: bytearray) -> None:
        block[483:495] = base_256(size)

    return header("s.jpg", tarfile.GNUTYPE_SPARSE, 0, change) + member("s.txt", b"a dog")


def sparse_pax(size: int) -> bytes:
    return pax({"GNU.sparse.major": "1", "GNU.sparse.name": "s.jpg", "GNU.sparse.realsize": str(size)}) + member(
        "GNUSparseFile.0/s.jpg", b"0\n"
    )


def pax(said: dict[str, str]) -> bytes:
    content = b""
    for keyword, value in said.items():
        rest = f" {keyword}={value}\n".encode()
        content += f"{len(rest) + 3:03d}".encode() + rest
    return member("x", content, tarfile.XHDTYPE)


CASES = {
    # How the tar goes on after a good sample, whose size no header can be trusted to say: what is met in it.
    "negative size": (header("b.jpg", change=size_field(base_256(-1024))), [TRUNCATED]),
    "enormous size": (header("b.jpg", change=size_field(base_256(2**80))), [TOO_LARGE_SAMPLE, TRUNCATED]),
    "size beyond the file": (header("b.jpg", size=10 * MIB), [TRUNCATED]),
    "negative pax size": (pax({"size": "-512"}) + member("b.jpg", JPEG), [TRUNCATED]),
    "pax size of many digits": (pax({"size": "9" * 90}) + member("b.jpg", JPEG), [TRUNCATED]),
    "pax size of no digits": (pax({"size": "many"}) + member("b.jpg", JPEG), [TRUNCATED]),
    "enormous long name": (header("x", tarfile.GNUTYPE_LONGNAME, 2**33), [TRUNCATED]),
    "enormous pax header": (header("x", tarfile.XHDTYPE, 2**33), [TRUNCATED]),
    "digits without an end": (member("x", b"1" * 60_000, tarfile.XHDTYPE) + good("b"), [TRUNCATED]),
    "chain of long names": (member("x", b"name.jpg\0", tarfile.GNUTYPE_LONGNAME) * 5000, [TRUNCATED]),
    "chain of pax headers": (pax({"comment": "x"}) * 2000 + good("b"), [None]),
    "no header": (b"\xff" * 512 + good("b"), [TRUNCATED]),
    "half a header": (good("b")[:100], [TRUNCATED]),
    "sparse": (sparse(2**30) + good("b"), [TOO_LARGE_SAMPLE, None]),
    "sparse, base 256": (sparse(2**70) + good("b"), [TOO_LARGE_SAMPLE, None]),
    "small and sparse": (sparse(2**20) + good("b"), [SPARSE, None]),
    "sparse in pax": (sparse_pax(2**40) + good("b"), [TOO_LARGE_SAMPLE, None]),
}


@pytest.mark.parametrize("name", CASES)
def test_counted_as_far_as_it_can_be_read_and_read_as_counted(tmp_path, name):
    goes_on, problems = CASES[name]
    path = tmp_path / "0.tar"
    path.write_bytes(good("a") + goes_on + (bytes(1024) if problems[-1] != TRUNCATED else b""))
    tracemalloc.start()
    try:
        samples = list(read_samples(str(path)))
        (size,) = shard_sizes([str(path)])
        counted = list(read_samples(str(path), 0, size, size=size))
        assert tracemalloc.get_traced_memory()[1] < 64 * MIB
    finally:
        tracemalloc.stop()
    assert [sample.problem for sample in samples] == [None, *problems]
    # What breaks off behind the last sample that is counted is noted with it.
    met = [sample.problem for sample in counted] + [cause for sample in counted for cause, _ in sample.notices]
    assert met == [None, *problems] or met == [None, *problems[:-1], CUT_SHORT]


def test_a_long_name_that_is_one(tmp_path):
    entries = [("d/" * 90 + name, content) for name, content in pair("a")]
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "0.tar", "w", format=form) as tar:
            for name, content in entries:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        (sample,) = read_samples(str(tmp_path / "0.tar"))
        assert sample.key == "0.tar/" + "d/" * 90 + "a" and sample.fields["jpg"] == JPEG


def test_headers_may_be_as_long_as_their_limit(tmp_path):
    name = b"x" * (MAX_HEADER_BYTES - 5) + b".jpg\0"
    path = tmp_path / "0.tar"
    path.write_bytes(member("x", name, tarfile.GNUTYPE_LONGNAME) + member("short", JPEG) + bytes(1024))
    assert [sample.problem for sample in read_samples(str(path))] == [None]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_sample_that_is_too_large_is_passed_over_unread(tmp_path, suffix):
    entries = [*pair("a"), ("b.jpg", bytes(3 * MIB)), ("b.txt", b"x"), *pair("c"), ("d.1.png", bytes(600)), *pair("d")]
    content = write_tar(tmp_path / "x.tar", entries).read_bytes()
    path = tmp_path / f"0.tar{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    largest = len(JPEG) + 400
    problems = {sample.key[-1]: sample.problem for sample in read_samples(str(path), max_sample_bytes=largest)}
    assert problems == {"a": None, "b": TOO_LARGE_SAMPLE, "c": None, "d": TOO_LARGE_SAMPLE}
    assert all(sample.problem is None for sample in read_samples(str(path)))


def test_the_limit_is_that_of_the_configuration(tmp_path):
    write_tar(tmp_path / "0.tar", [*pair("a"), *pair("b", "a photo of a dog" * 50)])
    batches = loader(config(str(tmp_path / "0.tar"), max_sample_bytes=len(JPEG) + 100), batch_size=2)
    assert next(batches).keys == ["0.tar/a", "0.tar/a"] and batches.bad.total[TOO_LARGE_SAMPLE] >= 1


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress], ids=["gz", "bz2", "xz"])
def test_what_a_compressed_shard_may_expand_to_is_bounded(tmp_path, monkeypatch, compress):
    monkeypatch.setattr(shard_bytes, "FREE_BYTES", 2 * MIB)
    path = tmp_path / "0.tar.x"
    path.write_bytes(compress(good("a") + member("b.bin", bytes(80 * MIB)) + good("c")))
    samples = list(read_samples(str(path), max_sample_bytes=MIB))
    assert [sample.problem for sample in samples] == [None, TOO_LARGE_SAMPLE, EXPANDS]
    assert shard_sizes([str(path)]) == [2]


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress], ids=["gz", "bz2", "xz"])
def test_compressed_shards_that_are_damaged(tmp_path, compress):
    packed = compress(write_tar(tmp_path / "x.tar", pairs("a", 40)).read_bytes())
    path = tmp_path / "0.tar.x"
    for damaged in (packed[: len(packed) // 2], packed[:12], packed[:10] + b"\xff" * 99):
        path.write_bytes(damaged)
        (size,) = shard_sizes([str(path)])
        samples = list(read_samples(str(path), 0, size, size=size))
        assert len(samples) == size >= 1
        notices = [cause for sample in samples for cause, _ in sample.notices]
        assert {sample.problem for sample in samples} & {TRUNCATED, UNREADABLE} or notices == [CUT_SHORT]
    path.write_bytes(packed)
    assert [sample.problem for sample in read_samples(str(path))] == [None] * 40


def test_devices_and_pipes_are_refused_and_never_waited_for(tmp_path):
    write_tar(tmp_path / "0.tar", pairs("a", 4))
    for name, make in (("1.tar", os.mkfifo), ("2.tar", lambda path: os.symlink("/dev/zero", path))):
        make(tmp_path / name)
        assert [sample.problem for sample in read_samples(str(tmp_path / name))] == [UNREADABLE]
        assert shard_sizes([str(tmp_path / name)]) == [1]
        for pattern in (f"{tmp_path}/*.tar", f"{tmp_path}/{name}"):
            with pytest.raises(InputError, match=rf"{name} is a (named pipe|device), no file"):
                loader(config(pattern))
        (tmp_path / name).unlink()
    os.mkfifo(tmp_path / "sizes.json")
    assert shard_sizes([str(tmp_path / "0.tar")]) == [4]


def test_a_shard_that_becomes_a_pipe_is_counted(tmp_path):
    for i in range(2):
        write_tar(tmp_path / f"{i}.tar", pairs("a", 4))
    batches = loader(config(f"{tmp_path}/*.tar"), batch_size=4)
    (tmp_path / "0.tar").unlink()
    os.mkfifo(tmp_path / "0.tar")
    assert {key.partition("/")[0] for key in [*next(batches).keys, *next(batches).keys]} == {"1.tar"}
    assert set(batches.bad.total) == {UNREADABLE}


def test_flipped_bytes_in_headers_never_escape(tmp_path):
    """Nothing is raised, and the count is what the reader gives."""
    whole = write_tar(tmp_path / "0.tar", pairs("a", 6)).read_bytes()
    problems: Counter[str | None] = Counter()
    for i in range(150):
        damaged = bytearray(whole)
        at = (i * 7919) % len(damaged)
        damaged[at : at + 8] = struct.pack("<Q", (i * 2654435761) % 2**64)
        (tmp_path / "0.tar").write_bytes(damaged)
        (size,) = shard_sizes([str(tmp_path / "0.tar")])
        samples = list(read_samples(str(tmp_path / "0.tar"), 0, size, size=size))
        assert len(samples) == size
        problems.update(sample.problem for sample in samples)
        problems.update(cause for sample in samples for cause, _ in sample.notices)
    assert set(problems) >= {None, CUT_SHORT, UNREADABLE}
