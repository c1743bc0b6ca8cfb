"""`tcl index`: what is in an index, however it came to be."""

import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_files import encode, noise, write_tar
from indexing import BATCH, build, content, in_a_child, lines_of, photographs, tiny_stages
from launching import ENVIRONMENT, TORCHRUN
from PIL import Image
from tiny_pretrained import tiny_tcl, tiny_towers

import tcl.index.build
from tcl.commands.main import run
from tcl.data.tokens.stored_tokens import restore_tokens
from tcl.errors import InputError
from tcl.index.catalogue import State
from tcl.index.description import read_description
from tcl.index.index import Index
from tcl.index.progress import read_progress
from tcl.index.share import Share
from tcl.index.stages import Stages
from tcl.index.store import Store, only_writer
from tcl.index.write import Wanted, write_index


@pytest.fixture(scope="module")
def stages():
    return tiny_stages()


@pytest.fixture
def images(tmp_path) -> Path:
    photographs(tmp_path / "photos", range(10))
    return tmp_path / "photos"


def names(folder: Path) -> list[str]:
    return sorted(os.fsdecode(item.file) for item in content(folder).items)


def test_an_image_is_what_the_model_makes_of_it(images, tmp_path, stages):
    built, info = build(tmp_path / "index", images, stages, embeddings="fp32", tokens="fp16")
    assert (built.images, built.encoded, info["images"], info["not_searchable_yet"]) == (10, 10, 10, 0)
    store = Store(tmp_path / "index", read_description(tmp_path / "index"), writable=False)
    items = list(store.catalogue.items())
    assert [item.file.decode() for item in items] == sorted(item.file.decode() for item in items)
    paths = [images / item.file.decode() for item in items]
    rows = np.array([item.row for item in items])
    embeddings, hubness = store.read_embeddings(rows)
    np.testing.assert_allclose(embeddings, stages.model.encode_image(paths), atol=1e-6)
    assert not hubness.any()
    expected = [tokens.numpy() for tokens in stages.model.embed_images(paths).tokens]
    np.testing.assert_allclose(restore_tokens(store.read_tokens(rows)).numpy(), expected, rtol=2e-3, atol=2e-3)
    assert {(item.width, item.height) for item in items} == {(40, 30)}
    store.close()


def test_what_is_known_of_a_photograph(tmp_path, stages):
    (tmp_path / "photos").mkdir()
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a dog\0on a mat ", 6
    exif.get_ifd(0x8769)[0x9003] = "2021:05:30 12:00:01"
    noise(1, (600, 300)).save(tmp_path / "photos" / "a.jpg", exif=exif)
    noise(2).save(tmp_path / "photos" / "b.png")
    build(tmp_path / "index", tmp_path / "photos", stages)
    first, second = content(tmp_path / "index").items
    assert (first.width, first.height, first.caption) == (300, 600, "a dog on a mat")
    assert first.taken == int(np.datetime64("2021-05-30T12:00:01", "s").astype(int))
    assert (second.taken, second.caption) == (None, None)
    with Index(tmp_path / "index", stages) as index:
        picture = Image.open(io.BytesIO(index.picture(first.id)))
    assert picture.format == "JPEG" and picture.size == (128, 256)


def test_new_changed_and_gone(images, tmp_path, stages):
    index = tmp_path / "index"
    build(index, images, stages)
    before = {item.file: item for item in content(index).items}
    (images / "000.png").unlink()
    noise(50, (40, 30)).save(images / "002.png")
    os.utime(images / "002.png", ns=(1, 1))
    photographs(images, range(20, 24))
    built, _ = build(index, images, stages)
    assert (built.images, built.encoded, built.dropped) == (13, 5, 2)
    after = {item.file: item for item in content(index).items}
    assert b"000.png" not in after and after[b"004.png"] == before[b"004.png"]
    assert after[b"002.png"].id > max(item.id for item in before.values())  # an id is never given twice
    assert sorted(item.row for item in after.values()) == list(range(13))  # rows are
    with Index(index, stages) as opened:
        for name, item in after.items():
            assert opened.search(image=images / name.decode(), k=1)[0].id == item.id
    assert build(index, images, stages)[0].encoded == 0


def test_what_cannot_be_read_is_named_counted_and_left_until_it_changes(images, tmp_path, stages, monkeypatch, capsys):
    bad = {"bad.jpg": b"no image", "empty.png": b"", "notes.txt": b"text", "cut.jpg": encode(noise(0, (64, 64)))[:-300]}
    for name, what in bad.items():
        (images / name).write_bytes(what)
    index = tmp_path / "index"
    _, info = build(index, images, stages)
    causes = {"corrupt image": 1, "empty image file": 1, "text, no image": 1, "truncated image": 1}
    assert info["skipped"] == causes
    listed = json.loads((index / "skipped.json").read_text())
    assert {one["id"] for one in listed} == set(bad)
    assert build(index, images, stages)[0].images == 10
    for name in bad:
        noise(77, (40, 30)).save(images / name, "PNG")
    assert build(index, images, stages)[0].encoded == 4
    assert not (index / "skipped.json").exists()


def test_links_out_of_the_folder_are_not_followed(images, tmp_path, stages):
    (tmp_path / "secret").mkdir()
    noise(99).save(tmp_path / "secret" / "s.png")
    (images / "file.png").symlink_to(tmp_path / "secret" / "s.png")
    (images / "folder").symlink_to(tmp_path / "secret")
    (images / "within.png").symlink_to("000.png")
    (images / "loop.png").symlink_to("loop.png")
    os.mkfifo(images / "pipe.png")
    build(tmp_path / "index", images, stages)
    assert "within.png" in names(tmp_path / "index") and len(names(tmp_path / "index")) == 11
    causes = {one.id: one.cause for one in content(tmp_path / "index").skipped}
    assert causes.keys() == {"file.png", "folder", "loop.png", "pipe.png"}
    assert causes["file.png"] == "path leaves the image folder by a link"
    assert causes["folder"] == "folder behind a link, not entered"


def test_an_index_within_its_folder_is_no_part_of_it(images, stages):
    for _ in range(2):
        built, info = build(images / "deep" / "index", images, stages)
        assert (built.images, info["skipped"]) == (10, {})


def test_any_name_that_a_file_can_have(tmp_path, stages):
    odd = ["東京.png", "e\u0301.png", "\u202egpj.png", "a\nb.png", "'; DROP TABLE items; --.png", '"\\.png', "%_*.png"]
    raw = [*map(os.fsencode, odd), b"\xff\xfe.png", "dé/sub dir/🐕.png".encode()]
    root = os.fsencode(tmp_path / "photos")
    for i, name in enumerate(raw):
        os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
        with open(os.path.join(root, name), "wb") as file:
            file.write(encode(noise(i), "PNG"))
    build(tmp_path / "index", tmp_path / "photos", stages)
    with Index(tmp_path / "index", stages) as index:
        found = index.search("a dog", k=len(raw))
        assert {os.fsencode(hit.path) for hit in found} == {os.path.join(root, name) for name in raw}
        assert all(os.path.isfile(hit.path) for hit in found)
        assert [hit.path for hit in index.search("a dog", k=1, folder="dé")] == [f"{tmp_path}/photos/dé/sub dir/🐕.png"]


def test_stopped_anywhere_twenty_times_it_is_the_same(images, tmp_path, stages, monkeypatch):
    """Killed at a random line of tcl/index, each time a process of its own; in between files come, change and go."""
    monkeypatch.setattr(tcl.index.build, "COMMIT_SECONDS", 0)
    (images / "bad.jpg").write_bytes(b"no image")
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def lines(index: Path, stop: int | None) -> int:
        return lines_of(lambda: build(index, images, stages), stop)

    rng, kills = random.Random(0), 0
    for change in (0, 1):
        if change:
            (images / "004.png").unlink()
            noise(60, (40, 30)).save(images / "000.png")
            os.utime(images / "000.png", ns=(5, 5))
            photographs(images, range(30, 36))
        long = lines(whole, None)
        for _ in range(10):
            stop = rng.randint(1, long // 2)
            kills += in_a_child(lambda stop=stop: lines(killed, stop)) == signal.SIGKILL
        build(killed, images, stages)
        assert content(killed) == content(whole)
    assert kills >= 14
    with Index(killed, stages) as one, Index(whole, stages) as other:
        assert one.pending == 0
        assert one.search("a dog", k=12) == other.search("a dog", k=12)


def test_how_far_it_is_can_be_seen_from_outside(images, tmp_path, stages, monkeypatch):
    index, seen = tmp_path / "index", []
    keep = Store.keep

    def watched(self, *given):
        keep(self, *given)
        seen.append(read_progress(index, self.catalogue.files_read()))

    monkeypatch.setattr(Store, "keep", watched)
    (images / "bad.jpg").write_bytes(b"no image")
    build(index, images, stages)
    assert [(one.files, one.read) for one in seen] == [(11, 3), (11, 6), (11, 9), (11, 11)]
    assert read_progress(index, 11) is None
    noise(90).save(images / "new.png")
    del seen[:]
    build(index, images, stages)
    assert [(one.files, one.read) for one in seen] == [(12, 12)]
    for damaged in (b"", b"{", b"[]", b'{"files": "x"}', b'{"files": -1}', b"\xff" * 2000):
        (index / "progress.json").write_bytes(damaged)
        assert read_progress(index, 1) is None


def test_worker_processes_change_nothing(images, tmp_path, stages):
    build(tmp_path / "alone", images, stages)
    build(tmp_path / "helped", images, stages, workers=2)
    assert content(tmp_path / "helped") == content(tmp_path / "alone")


@pytest.mark.slow
def test_two_processes_write_the_index_of_one(images, tmp_path):
    tiny_tcl().save_pretrained(tmp_path / "tcl")
    (images / "bad.jpg").write_bytes(b"no image")
    command = ["-m", "tcl", "index", tmp_path / "tcl", f"--images={images}", "--batch_size=3", "--precision=fp32"]
    options = [*map(str, command), "--device=cpu", "--workers=1"]
    done = subprocess.run(
        [*TORCHRUN, *options, f"--out={tmp_path / 'two'}"], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("two: 10 images (10 encoded") == 1
    # In a process of its own as well: with another number of threads the last bit may be another.
    subprocess.run([sys.executable, *options, f"--out={tmp_path / 'one'}"], env=ENVIRONMENT, check=True)
    assert content(tmp_path / "two") == content(tmp_path / "one")
    refused = subprocess.run(
        [*TORCHRUN, *options, f"--out={tmp_path / 'two'}", "--tokens=none"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert refused.returncode != 0
    assert [line[:24] for line in refused.stderr.splitlines() if line.startswith("error: ")] == [
        "error: tokens: none, but"
    ]


def sample(key: str, seed: int, *captions: str) -> list[tuple[str, bytes]]:
    return [(f"{key}.png", encode(noise(seed), "PNG")), (f"{key}.json", json.dumps({"captions": captions}).encode())]


def test_shards(tmp_path, stages):
    for shard in range(3):
        entries = [entry for i in range(7) for entry in sample(f"s{i}", 10 * shard + i, f"A dog, {i}!")]
        write_tar(tmp_path / f"{shard}.tar", [*entries, ("t.txt", b"no image")])
    wanted = Wanted(shards=f"{tmp_path}/*.tar")
    built, info = write_index(tmp_path / "index", wanted, stages, Share(), workers=2)
    assert (built.images, info["skipped"]) == (21, {"no image": 3})
    items = content(tmp_path / "index").items
    assert {(item.key, item.caption) for item in items} == {(f"s{i}", f"a dog {i}") for i in range(7)}
    assert write_index(tmp_path / "index", wanted, stages, Share(), workers=0)[0].encoded == 0
    write_tar(tmp_path / "1.tar", sample("new", 500))
    (tmp_path / "2.tar").unlink()
    built, _ = write_index(tmp_path / "index", wanted, stages, Share(), workers=0)
    assert (built.images, built.encoded, built.dropped) == (8, 1, 14)
    with Index(tmp_path / "index", stages) as index:
        assert f"{tmp_path}/1.tar/new" in [hit.path for hit in index.search("a dog", k=8)]


def test_a_shard_that_was_read_in_part_goes_on_there(tmp_path, stages, monkeypatch):
    write_tar(tmp_path / "0.tar", [entry for i in range(10) for entry in sample(f"s{i}", i)])
    wanted = Wanted(shards=f"{tmp_path}/*.tar")
    write_index(tmp_path / "whole", wanted, stages, Share(), workers=0)
    keep, kept = Store.keep, []

    def stopping(self, files, *rest):
        if len(kept) == 2:
            raise InputError("stopped")
        kept.append(files)
        keep(self, files, *rest)

    monkeypatch.setattr(tcl.index.build, "COMMIT_SECONDS", 0)
    monkeypatch.setattr(Store, "keep", stopping)
    with pytest.raises(InputError, match="stopped"):
        write_index(tmp_path / "stopped", wanted, stages, Share(), workers=0)
    monkeypatch.setattr(Store, "keep", keep)
    (state,) = [state for _, state in states_of(tmp_path / "stopped")]
    assert (state.samples, state.whole) == (2 * BATCH, False)
    assert write_index(tmp_path / "stopped", wanted, stages, Share(), workers=0)[0].encoded == 4
    assert content(tmp_path / "stopped") == content(tmp_path / "whole")


def states_of(folder: Path) -> list[tuple[bytes, State]]:
    store = Store(folder, read_description(folder), writable=False)
    found = list(store.catalogue.files())
    store.close()
    return found


# what goes wrong


def test_a_full_disk_is_one_line_and_nothing_is_lost(images, tmp_path, stages, monkeypatch):
    monkeypatch.setattr(tcl.index.build, "COMMIT_SECONDS", 0)
    build(tmp_path / "whole", images, stages)
    index = tmp_path / "index"
    largest = max(path.stat().st_size for path in (tmp_path / "whole").iterdir())

    def with_room(room: int) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        sys.dont_write_bytecode = True  # CPython 3.11 leaves half of a .pyc that may not grow
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        with pytest.raises(InputError) as refused:
            build(index, images, stages)
        line = str(refused.value)
        assert "\n" not in line and str(index) in line and "goes on" in line

    for share in (0.001, 0.01, 0.3, 0.6, 0.9):
        assert in_a_child(lambda share=share: with_room(int(share * largest))) == 0
    build(index, images, stages)
    assert content(index) == content(tmp_path / "whole")


def test_one_writer_at_a_time(images, tmp_path, stages):
    index = tmp_path / "index"
    build(index, images, stages)
    with only_writer(index):
        refused = in_a_child(lambda: refuses(index, "another process writes", lambda: build(index, images, stages)))
        assert refused == 0
        with Index(index, stages) as opened:  # readers are not kept out
            assert len(opened.search("a dog", k=3)) == 3


def refuses(index: Path, line: str, call) -> None:
    """InputError of one line that names the index."""
    with pytest.raises(InputError, match=line) as refused:
        call()
    assert "\n" not in str(refused.value) and str(index) in str(refused.value)


def test_another_model(images, tmp_path, stages):
    index = tmp_path / "index"
    build(index, images, stages)
    other = tiny_tcl()
    other.student.itm_head.bias.data += 1
    refuses(index, "^model: .* is of another one", lambda: Index(index, Stages(other, "other")))
    refuses(index, "^model: .* is of another one", lambda: build(index, images, Stages(other, "other")))
    assert len(names(index)) == 10


def test_another_version_no_index_and_damaged_ones(images, tmp_path, stages):
    index = tmp_path / "index"

    def damaged(name: str, change) -> None:
        build(index, images, stages)
        content_before = (index / name).read_bytes()
        (index / name).write_bytes(change(content_before))
        refuses(index, "damaged", lambda: Index(index, stages).search("a dog"))
        (index / name).write_bytes(content_before)

    damaged("index.json", lambda said: said[:-20])
    damaged("index.json", lambda said: said.replace(b'"embed_dim": 8', b'"embed_dim": -8'))
    damaged("catalogue.sqlite", lambda said: b"x" * len(said))
    damaged("embeddings.rows", lambda said: said[:-1])
    damaged("tokens.rows", lambda said: b"")
    damaged("faiss.index", lambda said: said[:100])
    (index / "tokens.rows").rename(index / "away")
    refuses(index, "missing", lambda: Index(index, stages))
    (index / "away").rename(index / "tokens.rows")
    (index / "faiss.index").write_bytes(b"damaged")  # is made again of the embeddings
    build(index, images, stages)
    assert Index(index, stages).search("a dog")
    said = (index / "index.json").read_text()
    (index / "index.json").write_text(said.replace('"version": 1', '"version": 2'))
    refuses(index, "is of version 2, this version of tcl reads 1", lambda: Index(index, stages))
    refuses(tmp_path, "is none; give a folder", lambda: Index(tmp_path / "nowhere", stages))


def test_what_an_index_is_cannot_be_changed(images, tmp_path, stages):
    index = tmp_path / "index"
    build(index, images, stages)
    (tmp_path / "others").mkdir()
    noise().save(tmp_path / "others" / "a.png")
    for wanted in ({"embeddings": "int8"}, {"tokens": "none"}, {"engine": "milvus", "uri": "x.db"}):
        refuses(index, "but .* is of", lambda wanted=wanted: build(index, images, stages, **wanted))
    refuses(index, "^images: .*others, but", lambda: build(index, tmp_path / "others", stages))
    refuses(images, "holds other files", lambda: build(images, images, stages))
    with pytest.raises(InputError, match=r"^tokens: two does not match images with texts; accepted: none"):
        build(tmp_path / "two", images, Stages(tiny_towers(), "two"), tokens="int8")
    with pytest.raises(InputError, match=r"^embeddings: tiny has no codebooks"):
        build(tmp_path / "codes", images, stages, embeddings="codes")
    with pytest.raises(InputError, match=r"^uri: it belongs to --engine milvus"):
        build(tmp_path / "uri", images, stages, uri="http://x")


def test_a_folder_that_is_gone_or_changes_while_it_is_read(images, tmp_path, stages, monkeypatch):
    index = tmp_path / "index"
    look = tcl.index.build.look

    def then_it_changes(store):
        found = look(store)
        (images / "000.png").unlink()
        noise(70, (40, 30)).save(images / "002.png")
        os.utime(images / "002.png", ns=(7, 7))
        return found

    monkeypatch.setattr(tcl.index.build, "look", then_it_changes)
    built, info = build(index, images, stages)
    assert (built.images, info["skipped"]) == (9, {"missing image file": 1})
    monkeypatch.setattr(tcl.index.build, "look", look)
    built, info = build(index, images, stages)
    assert (built.images, built.encoded, info["skipped"]) == (9, 1, {})
    images.rename(tmp_path / "away")
    refuses(images, "cannot be read", lambda: build(index, images, stages))
    images.mkdir()
    refuses(images, "is it mounted", lambda: build(index, images, stages))
    assert len(names(index)) == 9


def test_a_folder_that_cannot_be_read_keeps_what_it_had(images, tmp_path, stages, monkeypatch):
    build(tmp_path / "index", images, stages)
    scandir = os.scandir

    def refusing(place):
        if os.fsencode(place).endswith(b"/deep"):
            raise PermissionError(13, "Permission denied", place)
        return scandir(place)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", refusing)
        built, info = build(tmp_path / "index", images, stages)
    assert (built.images, built.dropped, info["skipped"]) == (10, 0, {"folder cannot be read": 1})
    assert build(tmp_path / "index", images, stages)[1]["skipped"] == {}


def test_commands_that_lack_something(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for options, line in (
        ([], "^model: it is missing"),
        (["m", "--images=photos"], "^out: it is missing"),
        (["m", "--out=i"], "^images: they are missing"),
        (["m", "--images=nowhere", "--out=i"], "^images: nowhere is no folder"),
        (["m", "--images=photos", "--out=i", "--workers=-1"], "^workers: -1"),
        (["m", "--images=photos", "--out=i", "--bank_temperature=0"], "^bank_temperature: 0"),
        (["--info=photos"], "^index: photos is none"),
    ):
        with pytest.raises(InputError, match=line):
            run(["index", *options])
    assert not Path("i").exists()
