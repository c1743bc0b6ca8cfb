"""Shards: bytes of tars and of gzip layers, headers, pax headers, names of entries."""

import gzip
import io
import json
import random
import tarfile
from pathlib import Path

from data_files import JPEG, config, loader

from tcl.data.questions import load_question_set
from tcl.data.read_shard import read_samples
from tcl.data.retrieval_set import load_retrieval_set
from tcl.data.shards import open_shards
from tcl.errors import InputError
from tests.fuzz.mutate import TEXTS, change_bytes

NAMES = [
    "a",
    "b",
    "ä",
    "x.1",
    "x.2021.0",
    "d/e",
    "d.1/e",
    "__x__",
    "A",
    "-",
    "~",
    " ",
    "a b",
    "x" * 120,
    "\x1b[2J",
    "'",
]
LIMITS = {"max_words": 30, "max_pixels": 10**6}


def prepare(folder: Path) -> None:
    """Nothing: a shard is made where it is changed."""


def make(good: Path, folder: Path, rng: random.Random) -> str:
    """Shards in `folder`, with or without sizes.json. expected.json: samples that must be read or counted, if known."""
    keys = rng.sample(NAMES, rng.randint(1, 6))
    mode = rng.choice(["names", "bytes", "bytes", "header", "pax", "file name", "gzip"])
    said = {"captions": ["a dog", None], "question": "a dog", "answers": ["dog"], "image_id": "1"}
    entries = [(f"{key}.jpg", JPEG) for key in keys] + [(f"{key}.json", json.dumps(said).encode()) for key in keys]
    entries.sort(key=lambda entry: keys.index(entry[0].rpartition(".")[0]))
    content = _tar(entries, rng if mode == "pax" else None)
    mutation, name = f"{mode}: {keys}", "0.tar"
    if mode == "names":
        (folder / "expected.json").write_text(json.dumps(len(set(keys) - {"__x__"})))
    elif mode == "bytes":
        content, what = change_bytes(content, rng)
        mutation += f", {what}"
    elif mode == "header":
        content = _with_header(content, rng)
    elif mode == "file name":
        name = rng.choice(
            ["pipe:touch PWNED; 0.tar", "pipe:touch PWNED; cat .tar", "a\nb.tar", "\x1b[2J.tar", "[0].tar"]
        )
        mutation += f", {name!r}"
    elif mode == "gzip":
        for _ in range(rng.randint(1, 2)):
            content = gzip.compress(content, mtime=0)
        if rng.random() < 0.7:
            content, what = change_bytes(content, rng)
            mutation += f", {what}"
    if rng.random() < 0.02:
        content, mutation = _bomb(rng), "a bomb"
    (folder / name).write_bytes(content)
    if rng.random() < 0.3:
        (folder / "sizes.json").write_text(json.dumps({name: rng.choice([0, 1, len(keys), 50])}))
        (folder / "expected.json").unlink(missing_ok=True)
    return mutation


def _tar(entries: list[tuple[str, bytes]], rng: random.Random | None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if rng is not None:
                key = rng.choice(
                    ["path", "size", "mtime", "GNU.sparse.map", "GNU.sparse.size", "GNU.sparse.major", "hdrcharset"]
                )
                info.pax_headers = {
                    key: rng.choice([*TEXTS[:7], "-5", "99999999999", "BINARY", "0,1073741824", "1"]).replace(
                        "\ud800", ""
                    )
                }
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def _with_header(content: bytes, rng: random.Random) -> bytes:
    """A field of a header is another, and its checksum right."""
    changed = bytearray(content)
    block = 512 * rng.randrange(len(content) // 512)
    start, length = rng.choice([(0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (345, 155)])
    value = rng.choice(
        [b"\x80" + bytes(length - 1), b"\xff" * length, b"7" * length, b"-1", b"5", b"2", b"g", b"S", b"K", b""]
    )
    changed[block + start : block + start + length] = value[:length].ljust(length, b"\0")
    changed[block + 148 : block + 156] = b" " * 8
    changed[block + 148 : block + 156] = b"%06o\0 " % sum(changed[block : block + 512])
    return bytes(changed)


def _bomb(rng: random.Random) -> bytes:
    """A few MB that become gigabytes, or an entry that says it does."""
    big = 3 * 2**30
    if rng.random() < 0.5:
        info = tarfile.TarInfo("a.jpg")
        info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.size": str(big), "GNU.sparse.map": f"{big},0"}
        return info.tobuf(tarfile.PAX_FORMAT) + bytes(1024)
    info = tarfile.TarInfo("a.jpg")
    info.size = big
    zeros = gzip.compress(bytes(2**24), mtime=0)
    return gzip.compress(info.tobuf(), mtime=0) + zeros * (big // 2**24)


def check(folder: Path) -> None:
    """Counted, read, trained on and evaluated on."""
    pattern = str(folder / "*.tar")
    try:
        sizes = open_shards(pattern)
    except InputError:
        return
    expected = json.loads((folder / "expected.json").read_text()) if (folder / "expected.json").exists() else 0
    for shard in sizes:
        samples = list(read_samples(shard.url))
        found = len(samples) + sum(len(sample.notices) for sample in samples)
        assert found >= expected, f"lost: {expected} images, {found} samples and notices"
        exactly = list(read_samples(shard.url, 0, shard.size, size=shard.size))
        assert len(exactly) == shard.size, f"lost: {shard.size} promised, {len(exactly)} read"
    for load in (load_retrieval_set, load_question_set):
        try:
            load(pattern, **LIMITS)
        except InputError:
            continue
    batches = loader(config(pattern, max_pixels=10**6), batch_size=2)
    for _ in range(2):
        next(batches)
