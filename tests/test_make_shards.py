"""Annotation files to shards: contents, determinism, and every kind of unusable row."""

import io
import json
from pathlib import Path

import pytest
import webdataset as wds
from data_files import encode, noise
from PIL import Image

from tcl.data.shards import open_shards
from tcl.errors import InputError
from tools.make_shards import make_shards


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    for i, extension in enumerate(("jpg", "png", "webp")):
        (folder / f"{i}.{extension}").write_bytes(
            encode(noise(i, (40, 20)), {"jpg": "JPEG"}.get(extension, extension.upper()))
        )
    (folder / "sub" / "photo.one.jpg").write_bytes(encode(noise(9, (64, 32))))
    return folder


def jsonl(path: Path, rows: list) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def read(out: Path) -> list[dict]:
    urls = [str(path) for path in sorted(out.glob("*.tar"))]
    return list(wds.WebDataset(urls, shardshuffle=False, empty_check=False))


def make(format: str, annotations: Path, images: Path, out: Path, **options):
    return make_shards(format, annotations, images, out, **options)


def test_jsonl_keeps_bytes_and_captions(images, tmp_path):
    rows = [
        {"image": "0.jpg", "captions": ["a", " b ", ""]},
        {"image": "1.png", "caption": "c"},
        {"image": "sub/photo.one.jpg", "captions": ["d"]},
    ]
    report = make("jsonl", jsonl(tmp_path / "a.jsonl", rows), images, tmp_path / "out", shard_size=2)
    samples = read(tmp_path / "out")
    assert (report.samples, report.shards, report.skipped) == (3, 2, [])
    assert [s["__key__"] for s in samples] == ["000000000", "000000001", "000000002"]
    assert samples[0]["jpg"] == (images / "0.jpg").read_bytes() and samples[1]["png"] == (images / "1.png").read_bytes()
    assert [json.loads(s["json"])["captions"] for s in samples] == [["a", "b"], ["c"], ["d"]]
    assert json.loads(samples[2]["json"])["image"] == "sub/photo.one.jpg"
    assert json.loads((tmp_path / "out" / "sizes.json").read_text()) == {"000000.tar": 2, "000001.tar": 1}
    assert [shard.size for shard in open_shards(f"{tmp_path}/out/*.tar")] == [2, 1]


def test_albef_list_keeps_rows_of_one_image_apart_and_takes_absolute_paths(images, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"image": str(images / "0.jpg"), "caption": c} for c in ("one", "two")]))
    make("json", path, tmp_path / "nowhere", tmp_path / "out")
    assert [json.loads(s["json"])["captions"] for s in read(tmp_path / "out")] == [["one"], ["two"]]


def test_coco_gathers_the_captions_of_an_image(images, tmp_path):
    path = tmp_path / "coco.json"
    annotations = [{"image_id": i, "caption": c} for i, c in ((7, "x"), (5, "y"), (7, "z"))]
    content = {"images": [{"id": 5, "file_name": "0.jpg"}, {"id": 7, "file_name": "1.png"}], "annotations": annotations}
    path.write_text(json.dumps(content))
    make("coco", path, images, tmp_path / "out")
    found = [json.loads(s["json"]) for s in read(tmp_path / "out")]
    assert [(s["image_id"], s["captions"]) for s in found] == [(5, ["y"]), (7, ["x", "z"])]


def test_output_does_not_depend_on_workers(images, tmp_path):
    rows = [{"image": f"{i % 3}.{('jpg', 'png', 'webp')[i % 3]}", "caption": f"c {i}"} for i in range(150)]
    rows[70] = {"image": "gone.jpg", "caption": "x"}
    annotations = jsonl(tmp_path / "a.jsonl", rows)
    contents = []
    for workers in (1, 3):
        out = tmp_path / f"out{workers}"
        make("jsonl", annotations, images, out, shard_size=40, workers=workers)
        contents.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert contents[0] == contents[1] and len(contents[0]) == 4 + 2


def test_shard_bytes_closes_before_the_limit(images, tmp_path):
    size = (images / "0.jpg").stat().st_size
    annotations = jsonl(tmp_path / "a.jsonl", [{"image": "0.jpg", "caption": "x"}] * 5)
    make("jsonl", annotations, images, tmp_path / "out", shard_bytes=2 * (size + 100))
    assert json.loads((tmp_path / "out" / "sizes.json").read_text()) == {
        "000000.tar": 2,
        "000001.tar": 2,
        "000002.tar": 1,
    }


def test_max_side_re_encodes_only_larger_images(images, tmp_path):
    rows = [{"image": "0.jpg", "caption": "x"}, {"image": "sub/photo.one.jpg", "caption": "y"}]
    make("jsonl", jsonl(tmp_path / "a.jsonl", rows), images, tmp_path / "out", max_side=48)
    small, large = read(tmp_path / "out")
    assert small["jpg"] == (images / "0.jpg").read_bytes()
    assert Image.open(io.BytesIO(large["jpg"])).size == (48, 24)


BAD_ROWS = {
    "missing image": {"image": "gone.jpg", "caption": "x"},
    "empty image file": {"image": "empty.jpg", "caption": "x"},
    "unreadable image": {"image": "half.jpg", "caption": "x"},
    "decompression bomb": {"image": "bomb.png", "caption": "x"},
    "no caption": {"image": "0.jpg", "captions": ["", "  "]},
    "captions are not text": {"image": "0.jpg", "captions": [3]},
    "not a row with an image": {"caption": "x"},
    "path leaves the image folder": {"image": "../images/0.jpg", "caption": "x"},
}


@pytest.mark.parametrize("cause", BAD_ROWS)
def test_unusable_rows_are_skipped_counted_and_listed(images, tmp_path, cause):
    (images / "empty.jpg").write_bytes(b"")
    (images / "half.jpg").write_bytes(encode(noise(0, (64, 64)))[:700])
    (images / "bomb.png").write_bytes(encode(Image.new("L", (400, 400)), "PNG"))
    rows = [{"image": "0.jpg", "caption": "good"}, BAD_ROWS[cause]]
    report = make("jsonl", jsonl(tmp_path / "a.jsonl", rows), images, tmp_path / "out", max_pixels=100_000)
    assert report.counts == {cause: 1} and report.samples == 1
    listed = json.loads((tmp_path / "out" / "report.json").read_text())["skipped"]
    assert listed == [{"where": "line 2", "image": BAD_ROWS[cause].get("image"), "cause": cause}]


def test_a_broken_line_is_counted_with_its_number(images, tmp_path):
    report = make(
        "jsonl", jsonl(tmp_path / "a.jsonl", [{"image": "0.jpg", "caption": "x"}, "{oops"]), images, tmp_path / "out"
    )
    assert report.skipped[0].where == "line 2"


@pytest.mark.parametrize(
    ("format", "content", "message"),
    [
        ("jsonl", None, r"annotations: .*cannot be read"),
        ("jsonl", b"\xff\xfe\x00", r"annotations: .*UTF-8"),
        ("jsonl", b" \n", r"annotations: .*is empty"),
        ("json", b"{}\n{}", r"annotations: .*is not JSON.*jsonl\?"),
        ("json", b"{}", r"format json needs a list"),
        ("coco", b"[]", r"format coco needs both"),
        ("jsonl", b'{"image": "gone.jpg", "caption": "x"}', r"no usable row: .*missing image"),
    ],
)
def test_bad_annotation_files(images, tmp_path, format, content, message):
    path = tmp_path / "annotations"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        make(format, path, images, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    "options", [{"shard_size": 1, "shard_bytes": 1}, {"shard_size": 0}, {"max_side": 0}, {"quality": 0}, {"workers": 0}]
)
def test_impossible_options_are_named(images, tmp_path, options):
    with pytest.raises(InputError, match=next(iter(options))):
        make(
            "jsonl",
            jsonl(tmp_path / "a.jsonl", [{"image": "0.jpg", "caption": "x"}]),
            images,
            tmp_path / "out",
            **options,
        )


def test_what_is_there_is_replaced_only_when_asked(images, tmp_path):
    annotations = jsonl(tmp_path / "a.jsonl", [{"image": "0.jpg", "caption": "x"}])
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("keep")
    with pytest.raises(InputError, match="is there already"):
        make("jsonl", annotations, images, tmp_path / "out")
    make("jsonl", annotations, images, tmp_path / "out", overwrite=True)
    assert not (tmp_path / "out" / "mine").exists()


def test_an_interrupted_run_leaves_nothing_that_looks_finished(images, tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("tcl.data.shard_writer.ShardWriter.write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make("jsonl", jsonl(tmp_path / "a.jsonl", [{"image": "0.jpg", "caption": "x"}]), images, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.rglob("sizes.json"))
