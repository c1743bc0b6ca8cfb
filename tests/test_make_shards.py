"""`tcl shards`: what it writes is what it was given, and everything it cannot use is named."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import webdataset as wds
from data_files import encode, noise
from PIL import Image

from tcl.annotations import make_shards as making
from tcl.annotations.make_shards import make_shards
from tcl.annotations.read_rows import read_rows
from tcl.annotations.row import Row
from tcl.commands import shards as command
from tcl.commands.one_line import end_with_one_line
from tcl.data.shards.shard_writer import ShardWriter
from tcl.errors import InputError

PNG = encode(noise(1), "PNG")


@pytest.fixture
def images(tmp_path) -> Path:
    """Five images in as many formats; one has the wrong file extension."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(encode(noise(0)))
    (folder / "sub" / "b.jpg").write_bytes(PNG)
    for seed, (name, format) in enumerate({"c.webp": "WEBP", "d.gif": "GIF", "e.tif": "TIFF"}.items()):
        (folder / name).write_bytes(encode(noise(seed), format))
    return folder


def write_json(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def run(structure: str, annotations: Path, images: Path, out: Path, *options: str) -> None:
    given = {"from": structure, "annotations": annotations, "images": images, "out": out, "workers": 1}
    arguments = [*(part for name, value in given.items() for part in (f"--{name}", str(value))), *options]
    end_with_one_line(command.main, arguments)


def read(out: Path) -> list[dict]:
    """Samples as webdataset itself reads them, undecoded."""
    shards = sorted(str(shard) for shard in out.glob("*.tar"))
    return [
        {name: sample[name] for name in sample if name not in ("__url__", "__local_path__")}
        for sample in wds.WebDataset(shards, shardshuffle=False)
    ]


def report(out: Path) -> dict:
    return json.loads((out / "report.json").read_text())


def files(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def rows(*names: str) -> list[Row]:
    return [Row(f"item {i}", name, {"captions": ["a dog"], "image": name}) for i, name in enumerate(names)]


def test_jsonl(tmp_path, images):
    expected = [
        ({"image": "a.jpg", "captions": ["one dog", " two  dogs\u2028"]}, "jpg", ["one dog", " two  dogs\u2028"]),
        ({"image": "sub/b.jpg", "caption": "ein Hund überquert"}, "png", ["ein Hund überquert"]),
        ({"image": "c.webp", "captions": "a cat"}, "webp", ["a cat"]),
        ({"image": "d.gif", "caption": ["x", "y"]}, "gif", ["x", "y"]),
        ({"image": str(images / "e.tif"), "captions": None, "caption": "absolute"}, "tiff", ["absolute"]),
        ({"image": "sub/../a.jpg", "caption": "inside after all"}, "jpg", ["inside after all"]),
    ]
    annotations = tmp_path / "rows.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row, _, _ in expected]
    annotations.write_text("\n\n".join(lines), encoding="utf-8-sig")
    run("jsonl", annotations, images, tmp_path / "out")
    samples = read(tmp_path / "out")
    assert [sample["__key__"] for sample in samples] == [f"00000000{i}" for i in range(6)]
    for sample, (row, type, captions) in zip(samples, expected, strict=True):
        assert sample.keys() == {"__key__", type, "json"}
        assert sample[type] == (images / row["image"]).read_bytes()
        assert json.loads(sample["json"]) == {"captions": captions, "image": row["image"]}


def test_json_does_not_merge_rows_of_one_image(tmp_path, images):
    annotations = [{"image": "a.jpg", "caption": "one"}, {"image": "a.jpg", "caption": ["two", "three"]}]
    run("json", write_json(tmp_path / "rows.json", annotations), images, tmp_path / "out")
    samples = read(tmp_path / "out")
    assert [json.loads(sample["json"])["captions"] for sample in samples] == [["one"], ["two", "three"]]
    assert all(sample["jpg"] == (images / "a.jpg").read_bytes() for sample in samples)


def test_coco_gathers_the_captions_of_an_image(tmp_path, images):
    listed = [(7, "a.jpg"), (3, "c.webp"), (4, "d.gif")]
    said = [(3, "cat"), (7, "dog"), (3, "another cat"), (99, "lost"), ([1], "odd id")]
    annotations = {
        "images": [*({"id": id, "file_name": name} for id, name in listed), 5],
        "annotations": [*({"image_id": id, "caption": text, "id": 1} for id, text in said), "no annotation"],
    }
    run("coco", write_json(tmp_path / "coco.json", annotations), images, tmp_path / "out")
    assert [json.loads(sample["json"]) for sample in read(tmp_path / "out")] == [
        {"captions": ["dog"], "image": "a.jpg", "image_id": 7},
        {"captions": ["cat", "another cat"], "image": "c.webp", "image_id": 3},
    ]
    no_image = "annotation of no image in the file"
    assert [tuple(row.values()) for row in report(tmp_path / "out")["skipped"]] == [
        ("image 2", "d.gif", "empty caption"),
        ("image 3", None, 'no "image"'),
        *((f"annotation {i}", None, no_image) for i in (3, 4, 5)),
    ]


def test_output_depends_on_neither_workers_nor_run(tmp_path, images):
    Image.new("RGB", (300, 200), "red").save(images / "large.jpg")
    names = ["a.jpg", "gone.jpg", "large.jpg", "c.webp", "large.jpg", "d.gif"] * 9  # several tasks per worker
    for out, workers in (("one", 1), ("two", 2), ("again", 2)):
        made = make_shards(rows(*names), tmp_path / out, images=images, workers=workers, shard_size=10, max_side=64)
        assert (made.rows, made.samples, made.shards) == (54, 45, 5)
    assert files(tmp_path / "one") == files(tmp_path / "two") == files(tmp_path / "again")
    assert len(files(tmp_path / "one")) == 5 + 2


def test_sizes(tmp_path, images):
    make_shards(rows("a.jpg", "gone.jpg", *["c.webp"] * 4), tmp_path / "out", images=images, shard_size=2)
    sizes = json.loads((tmp_path / "out" / "sizes.json").read_text())
    assert sizes == {"000000.tar": 2, "000001.tar": 2, "000002.tar": 1}
    assert [sample["__key__"] for sample in read(tmp_path / "out")] == [f"00000000{i}" for i in (0, 2, 3, 4, 5)]


@pytest.mark.parametrize("limit", [10_240, 20_480, 30_000])
def test_shard_bytes_is_the_largest_size_of_a_file(tmp_path, limit):
    def tar_size(sizes: list[int]) -> int:
        """Headers of 512 bytes, contents in blocks of 512, two blocks at the end; all in records of 10 kB."""
        used = sum(512 + (size + 511) // 512 * 512 for size in sizes) + 1024
        return (used + 10_239) // 10_240 * 10_240

    sizes = [100, 6_000, 3_000, 511, 513, 40_000, 1, 9_000, 9_000]
    expected = [[]]
    for size in sizes:
        if expected[-1] and tar_size([*expected[-1], size, 2]) > limit:
            expected.append([])
        expected[-1] += [size, 2]
    with ShardWriter(tmp_path, shard_bytes=limit) as writer:
        for i, size in enumerate(sizes):
            writer.write(f"{i:09d}", {"jpg": b"x" * size, "json": b"{}"})
    assert [len(sample["jpg"]) for sample in read(tmp_path)] == sizes
    assert list(writer.sizes.values()) == [len(shard) // 2 for shard in expected]
    assert [(tmp_path / name).stat().st_size for name in writer.sizes] == [tar_size(shard) for shard in expected]


def test_shard_bytes_option(tmp_path, images):
    (images / "noise.png").write_bytes(encode(noise(0, (60, 60)), "PNG"))  # 11 kB
    annotations = write_json(tmp_path / "rows.json", [{"image": "noise.png", "caption": "x"}] * 5)
    run("json", annotations, images, tmp_path / "out", "--shard_bytes", "30 KiB")
    sizes = json.loads((tmp_path / "out" / "sizes.json").read_text())
    assert sizes == {"000000.tar": 2, "000001.tar": 2, "000002.tar": 1}


def test_max_side(tmp_path, images):
    ramp = Image.linear_gradient("L").resize((200, 100))
    turned = Image.Exif()
    turned[0x0112] = 6
    (images / "large.png").write_bytes(encode(ramp, "PNG"))
    (images / "large.jpg").write_bytes(encode(ramp, "JPEG", exif=turned))
    (images / "fits.png").write_bytes(encode(noise(0, (50, 20)), "PNG"))
    (images / "twice.jpg").write_bytes(encode(noise(0, (100, 100))))
    clear = Image.new("RGBA", (100, 50), (0, 0, 0, 0))
    (images / "clear.png").write_bytes(encode(clear, "PNG"))
    names = ["large.png", "large.jpg", "fits.png", "twice.jpg", "clear.png"]
    make_shards(rows(*names), tmp_path / "out", images=images, max_side=50)
    samples = read(tmp_path / "out")
    assert samples[2]["png"] == (images / "fits.png").read_bytes()
    made = [Image.open(io.BytesIO(sample["jpg"])) for i, sample in enumerate(samples) if i != 2]
    assert [image.size for image in made] == [(50, 25), (25, 50), (50, 50), (50, 25)]
    assert all(image.mode == "RGB" and image.format == "JPEG" and not image.getexif() for image in made)
    # The ramp goes from black at the top to white at the bottom; a quarter turn clockwise puts black on the right.
    assert made[0].getpixel((25, 0))[0] < 20 and made[0].getpixel((25, 24))[0] > 235
    assert made[1].getpixel((24, 25))[0] < 20 and made[1].getpixel((0, 25))[0] > 235
    assert min(made[3].getpixel((10, 10))) > 250  # transparency is white
    make_shards(rows("twice.jpg"), tmp_path / "coarse", images=images, max_side=50, quality=30)
    assert len(read(tmp_path / "coarse")[0]["jpg"]) < 0.6 * len(samples[3]["jpg"])


def test_each_bad_row_is_named_with_its_cause(tmp_path, images, capsys):
    jpeg = encode(noise(0, (64, 64)))
    (images / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (images / "cut.png").write_bytes(PNG[:-40])
    (images / "zero.jpg").touch()
    (images / "page.jpg").write_bytes(b"<html>404</html>")
    (images / "wide.png").write_bytes(encode(Image.new("1", (1001, 1000)), "PNG"))
    (images / "exact.png").write_bytes(encode(Image.new("1", (1000, 1000)), "PNG"))
    expected = [
        ({"image": "gone.jpg", "caption": "x"}, "missing image file"),
        ({"image": "sub", "caption": "x"}, "missing image file"),
        ({"image": "nul\0.jpg", "caption": "x"}, "missing image file"),
        ({"image": "n" * 5000, "caption": "x"}, "image file cannot be read"),
        ({"image": "cut.jpg", "caption": "x"}, "truncated image"),
        ({"image": "cut.png", "caption": "x"}, "truncated image"),
        ({"image": "zero.jpg", "caption": "x"}, "empty image file"),
        ({"image": "page.jpg", "caption": "x"}, "HTML, no image"),
        ({"image": "wide.png", "caption": "x"}, "too many pixels"),
        ({"image": "a.jpg", "captions": []}, "empty caption"),
        ({"image": "a.jpg", "captions": ["", " \t"]}, "empty caption"),
        ({"image": "a.jpg"}, "empty caption"),
        ({"image": "a.jpg", "captions": ["x", 5]}, "caption in JSON is not text"),
        ({"image": "a.jpg", "caption": {"en": "x"}}, "caption in JSON is not text"),
        ({"image": "../images/a.jpg", "caption": "x"}, "path leaves the image folder"),
        ({"image": "sub/../../rows.jsonl", "caption": "x"}, "path leaves the image folder"),
        ('{"image": "a.jpg", "caption": "x"', "line is not JSON"),
        ('{"image": "a.jpg", "caption": "\udcff"}', "line is not JSON"),  # not UTF-8
        ("[" * 100_000, "line is not JSON"),
        ({"caption": "x"}, 'no "image"'),
        ({"image": 5, "caption": "x"}, 'no "image"'),
        ({"image": "", "caption": "x"}, 'no "image"'),
        ([1], 'no "image"'),
    ]
    good = [{"image": "exact.png", "caption": "x"}, {"image": "a.jpg", "captions": ["", "kept", "  "]}]
    items = [good[0], *(item for item, _ in expected), good[1]]
    lines = [item if isinstance(item, str) else json.dumps(item) for item in items]
    annotations = tmp_path / "rows.jsonl"
    annotations.write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
    run("jsonl", annotations, images, tmp_path / "out", "--max_pixels", "1e6")

    found = report(tmp_path / "out")
    causes = [cause for _, cause in expected]
    assert [(row["where"], row["cause"]) for row in found["skipped"]] == [
        (f"line {i}", cause) for i, cause in enumerate(causes, start=2)
    ]
    assert found["skipped"][4]["image"] == "cut.jpg" and found["skipped"][16]["image"] is None
    assert found["causes"] == {cause: causes.count(cause) for cause in causes}
    assert (found["rows"], found["samples"], found["shards"], found["blank_captions"]) == (25, 2, 1, 2)
    samples = read(tmp_path / "out")
    assert [sample["__key__"] for sample in samples] == ["000000000", "000000024"]
    assert json.loads(samples[1]["json"])["captions"] == ["kept"]
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "2 samples in 1 shards; skipped 23 rows"
    assert table[1].split(maxsplit=1) == ["4", 'no "image"']
    assert len(table) == 1 + len(found["causes"]) + 1


def error_of(capsys, *arguments) -> str:
    """The one line on stderr of a command that exits with 2."""
    with pytest.raises(SystemExit) as exit:
        run(*arguments)
    assert exit.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line and "rows/s" not in line]  # no progress bar
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


JSONL = '{"image": "a.jpg", "caption": "x"}\n'
LIST = f"[{JSONL}]"
COCO = '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "caption": "x"}]}'


@pytest.mark.parametrize(
    "structure, content, message",
    [
        ("jsonl", "", "is empty"),
        ("jsonl", " \n\n", "is empty"),
        ("json", "", "is empty"),
        ("jsonl", LIST, "--from json"),
        ("jsonl", COCO, "--from coco"),
        ("jsonl", json.dumps(json.loads(COCO), indent=1), "--from coco"),
        ("json", JSONL, "is it jsonl"),
        ("json", JSONL * 2, "--from jsonl"),
        ("json", COCO, "is it --from coco"),
        ("json", "[]", "no usable one among 0"),
        ("coco", JSONL, '"images" and "annotations"'),
        ("coco", LIST, '"images" and "annotations"'),
        ("coco", '{"images": 1, "annotations": []}', '"images" and "annotations"'),
        ("coco", COCO.replace("caption", "bbox"), "captions file"),
        ("coco", "{" * 100_000, "is not JSON"),
        ("jsonl", JSONL.replace("a.jpg", "gone.jpg") * 2, "2 x missing image file"),
    ],
)
def test_bad_annotations(tmp_path, images, capsys, structure, content, message):
    annotations = tmp_path / "annotations"
    annotations.write_text(content)
    assert message in error_of(capsys, structure, annotations, images, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"annotations", "images"}


@pytest.mark.parametrize("structure", ["jsonl", "json"])
@pytest.mark.parametrize("name, message", [("gone.json", "No such file"), ("images", "Is a directory")])
def test_unreadable_annotations(tmp_path, images, capsys, structure, name, message):
    assert message in error_of(capsys, structure, tmp_path / name, images, tmp_path / "out")


@pytest.mark.parametrize(
    "options, message",
    [
        (["--shard_size", "10", "--shard_bytes", "10MB"], "give one of them"),
        (["--shard_size", "0"], "shard_size: 0"),
        (["--shard_bytes", "0"], "shard_bytes: 0"),
        (["--shard_bytes", "300XB"], "shard_bytes: '300XB'"),
        (["--max_pixels", "many"], "max_pixels: 'many'"),
        (["--max_side", "0"], "max_side: 0"),
        (["--workers", "0"], "workers: 0"),
        (["--quality", "96"], "quality: 96"),
        (["--images", "nowhere"], "images: nowhere"),
        (["--out", "images/a.jpg"], "is a file"),
        (["--out", "rows.jsonl"], "would replace rows.jsonl"),
        (["--out", "rows.jsonl/out"], "cannot be written"),
        (["--out", ".", "--overwrite"], "would replace rows.jsonl"),
        (["--out", "images", "--overwrite"], "overwriting would delete"),
    ],
)
def test_bad_options(tmp_path, images, capsys, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(JSONL)
    assert message in error_of(capsys, "jsonl", Path("rows.jsonl"), images, tmp_path / "out", *options)
    assert {path.name for path in tmp_path.iterdir()} == {"rows.jsonl", "images"}
    assert (images / "a.jpg").exists()


@pytest.mark.parametrize(
    "text, number",
    [("100e6", 10**8), ("300MB", 3 * 10**8), ("1.5 GiB", 1.5 * 2**30), ("4kb", 4000), ("7", 7), ("7B", 7)],
)
def test_numbers(text, number):
    assert command.parse_number("shard_bytes", text) == number


def test_unknown_structure(tmp_path):
    with pytest.raises(InputError, match="from: 'xml'"):
        read_rows("xml", tmp_path)


def test_out_in_use_is_kept_unless_overwritten(tmp_path, images, capsys):
    annotations, out = tmp_path / "rows.jsonl", tmp_path / "out"
    annotations.write_text(JSONL)
    out.mkdir()
    run("jsonl", annotations, images, out)  # an empty folder is not in use
    before = files(out)
    annotations.write_text(JSONL * 3)
    assert "not empty" in error_of(capsys, "jsonl", annotations, images, out)
    assert files(out) == before
    (out / "000007.tar").touch()
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "000009.tar").touch()  # from a run that was killed
    run("jsonl", annotations, images, out, "--overwrite")
    assert set(files(out)) == {"000000.tar", "sizes.json", "report.json"} and len(read(out)) == 3
    assert {path.name for path in tmp_path.iterdir()} == {"images", "out", "rows.jsonl"}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("overwrite", [False, True])
def test_interrupted_run_changes_nothing(tmp_path, images, stop, overwrite):
    out = tmp_path / "out"
    if overwrite:
        make_shards(rows("a.jpg"), out, images=images)
    before = files(out) if overwrite else None

    def interrupted():
        yield from rows(*["a.jpg"] * 100)
        assert (tmp_path / "out.partial" / "000000.tar").exists()  # shards are under way
        raise stop

    with pytest.raises(stop):
        make_shards(interrupted(), out, images=images, shard_size=5, overwrite=overwrite)
    assert {path.name for path in tmp_path.iterdir()} == ({"images", "out"} if overwrite else {"images"})
    assert not overwrite or files(out) == before


def test_sigterm_tidies_up_as_an_interrupt_does(tmp_path, images, monkeypatch):
    """What is under way is removed, and the signal means what it meant before once the command has ended."""
    (tmp_path / "rows.jsonl").write_text(JSONL * 20)
    before, write = signal.getsignal(signal.SIGTERM), ShardWriter.write

    def told_to_stop(self, *arguments):
        write(self, *arguments)
        assert list((tmp_path / "out.partial").iterdir())
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(ShardWriter, "write", told_to_stop)
    with pytest.raises(SystemExit) as ended:
        run("jsonl", tmp_path / "rows.jsonl", images, tmp_path / "out")
    assert ended.value.code == 143
    assert {path.name for path in tmp_path.iterdir()} == {"images", "rows.jsonl"}
    assert signal.getsignal(signal.SIGTERM) == before


def test_killed_worker(tmp_path, images, monkeypatch):
    monkeypatch.setattr(making, "_leave_signals_to_parent", _die)
    with pytest.raises(InputError, match="workers: one of 2 was killed"):
        make_shards(rows("a.jpg"), tmp_path / "out", images=images)
    assert not (tmp_path / "out").exists()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_rows_are_read_as_they_are_needed(tmp_path, images, monkeypatch):
    """Memory stays flat: never more than a few tasks of rows are taken ahead of what is written."""
    taken, ahead, write = [], [], ShardWriter.write

    def watched_write(writer, key, files):
        ahead.append(len(taken) - int(key))
        write(writer, key, files)

    monkeypatch.setattr(ShardWriter, "write", watched_write)
    make_shards((taken.append(row) or row for row in rows(*["a.jpg"] * 400)), tmp_path / "out", images=images)
    assert len(ahead) == 400
    assert 1 <= max(ahead) <= 3 * 2 * making.ROWS_PER_TASK


def test_the_command_line_of_the_docstring(tmp_path, images, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("train.jsonl").write_text(JSONL)
    example = next(line for line in command.__doc__.splitlines() if line.startswith("    tcl shards "))
    command.main(example.split()[2:])
    assert capsys.readouterr().out == "1 samples in 1 shards; skipped 0 rows\n"
    assert Path("shards/train/000000.tar").exists()


def test_the_command_needs_only_the_package(tmp_path, images):
    """Nothing else of a checkout."""
    annotations = tmp_path / "rows.jsonl"
    annotations.write_text(JSONL)
    root = Path(__file__).resolve().parents[1]
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "tcl").symlink_to(root / "tcl")
    options = ["--from", "jsonl", "--annotations", "rows.jsonl", "--images", "images", "--out", "out"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "path")}
    subprocess.run([sys.executable, "-m", "tcl", "shards", *options], check=True, cwd=tmp_path, env=environment)
    assert len(read(tmp_path / "out")) == 1
