"""Tar files: plain and compressed, of every dialect, with headers that lie under checksums that hold."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
from pathlib import Path
from random import Random

from tcl.data.sets.retrieval_set import load_retrieval_set
from tcl.data.shards.list_shards import open_shards
from tcl.data.shards.read_shard import BESIDE_SAMPLES, read_samples
from tests.data_files import pairs
from tests.fuzz.case import Wrong
from tests.fuzz.mutate import NAMES, damage

SAMPLES = 4
PACK = {"": lambda tar: tar, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
SIZES = (
    b"77777777777\0",
    b"-0000000001\0",
    b"00000000000\0",
    b"\x80" + b"\xff" * 11,
    b"\xff" * 12,
    b"0x1f\0",
    b"9" * 12,
)
PAX = ("size", "path", "linkpath", "GNU.sparse.size", "GNU.sparse.map", "GNU.sparse.realsize", "hdrcharset", "mtime")


def prepare(folder: Path) -> dict[int, bytes]:
    """A tar of SAMPLES pairs in each dialect."""
    found = {}
    for dialect in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", format=dialect) as tar:
            for name, content in pairs("s", SAMPLES):
                entry = tarfile.TarInfo(name if dialect == tarfile.USTAR_FORMAT else name.rjust(120, "x"))
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        found[dialect] = stream.getvalue()
    return found


def mutate(good: dict[int, bytes], rng: Random, folder: Path) -> None:
    """One shard in `folder`, of a name that may look like something else."""
    tar, how = rng.choice(list(good.values())), rng.random()
    if how < 0.35:
        tar = _with_lying_header(tar, rng)
    elif how < 0.5:
        tar = _with_odd_name(rng)
    elif how < 0.6:
        tar = _with_pax_header(rng) + tar
    elif how < 0.9:
        tar = damage(tar, rng)
    suffix = rng.choice(list(PACK)) if rng.random() < 0.3 else ""
    content = PACK[suffix](tar)
    content = damage(content, rng) if suffix and rng.random() < 0.5 else content
    name = rng.choice(
        ("0.tar", "0.tar", "0.tar", "pipe:touch PWNED; 0.tar", "https:x.tar", "a [v2]{1,2}.tar", "-0.tar")
    )
    (folder / (name + suffix)).write_bytes(content)
    if how >= 0.97:
        (folder / (name + suffix)).unlink()
        os.mkfifo(folder / (name + suffix))
    if rng.random() < 0.1:
        (folder / "sizes.json").write_bytes(damage(b'{"0.tar": 4}', rng))


def read(good: dict[int, bytes], folder: Path) -> None:
    shards = open_shards("*.tar*")
    intact = any(path.is_file() and path.read_bytes() in good.values() for path in folder.glob("*.tar"))
    for shard in shards:
        whole = list(read_samples(shard.url))
        usable = sum(sample.problem is None for sample in whole)
        if intact and usable != SAMPLES:
            raise Wrong(f"{usable} of {SAMPLES} samples of an intact shard")
        for start, stop in ((0, shard.size), (1, shard.size + 2), (0, 1)):
            some = list(read_samples(shard.url, start, stop, size=shard.size))
            if [sample.index for sample in some] != list(range(start, stop)):
                raise Wrong(f"samples {start} to {stop} came as {[sample.index for sample in some]}")
        notices = {cause for sample in whole for cause, _ in sample.notices} - set(BESIDE_SAMPLES)
        if notices:
            raise Wrong(f"noted beside the samples: {notices}")
    load_retrieval_set("*.tar*", max_words=30, max_pixels=1_000_000)


def _with_lying_header(tar: bytes, rng: Random) -> bytes:
    """One header with another size, type or name, and the checksum of what it says then."""
    headers = [at for at in range(0, len(tar) - 512, 512) if tar[at + 257 : at + 262] == b"ustar"]
    at = rng.choice(headers)
    header = bytearray(tar[at : at + 512])
    if rng.random() < 0.6:
        header[124:136] = rng.choice(SIZES)
    if rng.random() < 0.5:
        header[156] = rng.choice(b"01234567SLKxgVMNDX\0")
    if rng.random() < 0.2:
        name = rng.choice(NAMES).encode("utf-8", "surrogatepass")[:100]
        header[:100] = name.ljust(100, b"\0")
    if rng.random() < 0.2:
        header[345:500] = rng.randbytes(155)
    return tar[:at] + _checked(header) + tar[at + 512 :]


def _with_odd_name(rng: Random) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT, errors="surrogatepass") as tar:
        for name, content in pairs("s", SAMPLES):
            entry = tarfile.TarInfo(rng.choice((name, rng.choice(NAMES) + name, rng.choice(NAMES))))
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def _with_pax_header(rng: Random) -> bytes:
    """An extended header for the entry that follows."""
    records = b""
    for name in rng.sample(PAX, 3):
        value = rng.choice(("-1", "9" * 30, "1073741824", "0,1073741824", "", "x", "1e9", *NAMES))
        record = f" {name}={value}\n".encode("utf-8", "surrogatepass")
        records += str(len(record) + rng.choice((2, 3, 0, 9))).encode() + record
    entry = tarfile.TarInfo("header")
    entry.type, entry.size = rng.choice((tarfile.XHDTYPE, tarfile.XGLTYPE)), len(records)
    return entry.tobuf(tarfile.USTAR_FORMAT) + records.ljust(-(-len(records) // 512) * 512, b"\0")


def _checked(header: bytearray) -> bytes:
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    return bytes(header)
