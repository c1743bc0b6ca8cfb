"""Captions in tables and beside their images: csv, tsv and folder of `tcl shards`."""

import csv
import io
import json
import os
from pathlib import Path

import pytest
import webdataset as wds
from data_files import JPEG

from tcl.annotations import json_file, table_rows
from tcl.annotations.make_shards import make_shards
from tcl.annotations.read_rows import read_rows
from tcl.commands import shards as command
from tcl.errors import InputError


def table(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def told(rows) -> list[tuple]:
    """Image and captions of usable rows, place and cause of the others."""
    return [(row.image, row.sample["captions"]) if row.problem is None else (row.where, row.problem) for row in rows]


@pytest.mark.parametrize(
    "structure, name, delimiter", [("csv", "a.csv", ","), ("csv", "a.TSV", "\t"), ("tsv", "a", "\t")]
)
def test_a_table_as_pythons_own_writer_writes_it(tmp_path, structure, name, delimiter):
    captions = [
        'a "red, wide" door',
        "two\nlines",
        "tab\there",
        "Füchse, Ωmega 犬",
        "plain",
        'inch 6" pipe',
        "😀",
    ]
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter)
    writer.writerow(["id", "image", "caption"])
    writer.writerows((i, f"{i}.jpg", caption) for i, caption in enumerate(captions))
    path = table(tmp_path / name, "\ufeff" + stream.getvalue())
    assert told(read_rows(structure, path)) == [(f"{i}.jpg", [caption]) for i, caption in enumerate(captions)]


def test_columns_and_delimiter_are_named(tmp_path):
    path = table(tmp_path / "results.csv", "image_name| n| comment\n1.jpg| 0| A man , smiling .\n1.jpg| 1| A man .\n")
    found = read_rows("csv", path, image_column="image_name", caption_column="comment", delimiter="|")
    assert told(found) == [("1.jpg", ["A man , smiling ."]), ("1.jpg", ["A man ."])]


def test_a_table_without_a_first_line_of_names(tmp_path):
    path = table(tmp_path / "a.tsv", "a dog\thttp://x\ta.jpg\n\n'a cat'\thttp://y\tb.jpg\n")
    found = read_rows("tsv", path, image_column="3", caption_column="1")
    assert told(found) == [("a.jpg", ["a dog"]), ("b.jpg", ["'a cat'"])]


def test_each_line_is_a_row_or_a_cause(tmp_path, monkeypatch):
    monkeypatch.setattr(table_rows, "LINES_OF_FIELD", 3)
    lines = [
        (b"image,caption", None),
        (b"a.jpg,one", ("a.jpg", ["one"])),
        (b"a.jpg,a dog, running", ("line 3", table_rows.TOO_MANY_COLUMNS)),
        (b"a.jpg", ("line 4", "empty caption")),
        (b"a.jpg, ", ("line 5", "empty caption")),
        (b",lost", ("line 6", 'no "image"')),
        (b"a.jpg,caf\xe9", ("line 7", "line is not UTF-8")),
        (b'b.jpg,"never closed', ("line 8", table_rows.BAD_QUOTES)),
        (b"c.jpg,two", ("c.jpg", ["two"])),
        (b'd.jpg,"said "no"', ("line 10", table_rows.BAD_QUOTES)),
        (b"", None),
        (b"e.jpg,nul\0", ("e.jpg", ["nul\0"])),
        (b"f.jpg,three", ("f.jpg", ["three"])),
        (b'g.jpg,"open at the end', ("line 14", table_rows.BAD_QUOTES)),
        (b"h.jpg,last", ("h.jpg", ["last"])),
    ]
    path = table(tmp_path / "a.csv", b"\n".join(line for line, _ in lines))
    assert told(read_rows("csv", path)) == [expected for _, expected in lines if expected is not None]


@pytest.mark.parametrize("rest", [b"", b"\n", b'\nb.jpg,"x\n' * 3])
def test_long_lines_are_counted_and_the_others_stay(tmp_path, monkeypatch, rest):
    for module in (table_rows, json_file):
        monkeypatch.setattr(module, "LONGEST_LINE", 1000)
    path = table(tmp_path / "a.csv", b"image,caption\na.jpg," + b"x" * 5000 + b"\nb.jpg,short" + rest)
    assert told(read_rows("csv", path))[:2] == [("line 2", "more than 1 MiB of text"), ("b.jpg", ["short"])]


@pytest.mark.parametrize(
    "content, options, message",
    [
        (b"", {}, "annotations: .* is empty"),
        (b"\n \n", {}, "annotations: .* is empty"),
        ("image,caption\n".encode("utf-16"), {}, r"is not UTF-8 \(it looks like UTF-16\); save it as UTF-8"),
        (b"\x1f\x8b\x08\x00", {}, r"is compressed \(gzip\); unpack it"),
        (b"caf\xe9,caption\n", {}, "line 1: line is not UTF-8"),
        (
            b"filepath,title\n",
            {},
            "image_column: 'image' is not in .*; accepted: filepath, title, or a number from 1 to 2",
        ),
        (b"image,title\n", {}, "caption_column: 'caption' is not in .*; accepted: image, title"),
        (b"image,caption\n", {"image_column": "3"}, "image_column: '3' is not in"),
        (b"image,caption,caption\n", {}, "caption_column: 'caption' is there twice"),
        (b"image;caption\n", {}, "delimiter: the first line of .* is one column; give --delimiter ';'"),
        (b"image\tcaption\n", {}, "give --delimiter 'tab'"),
        (b"image,caption\n", {"delimiter": ""}, "delimiter: '' is not possible"),
        (b"image,caption\n", {"delimiter": '"'}, "delimiter: '\"' is not possible"),
        (b"image,caption\n", {"delimiter": ", "}, "delimiter: ', ' is not possible"),
        (b'{"image": "a.jpg", "caption": "x"}\n', {}, "is JSON, not a table; use --from jsonl or json"),
        (b'\n[{"image": "a.jpg", "caption": "x"}]', {}, "is JSON, not a table; use --from jsonl or json"),
        (b"image,caption\n", {"split": "train"}, "split: 'train' means nothing to --from csv"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, content, options, message):
    with pytest.raises(InputError, match=message) as error:
        read_rows("csv", table(tmp_path / "a.csv", content), **options)
    assert "\n" not in str(error.value)


def test_the_advice_for_another_delimiter_works(tmp_path):
    path = table(tmp_path / "a.csv", "image\tcaption\na.jpg\tx\n")
    assert told(read_rows("csv", path, delimiter="tab")) == [("a.jpg", ["x"])]


def put(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def test_texts_beside_images(tmp_path):
    files = {
        "a.jpg": JPEG,
        "a.txt": "one dog\r\n\r\n two\u2028dogs \rthree",
        "b.JPEG": JPEG,
        "b.TXT": "\ufeffa cat",
        "trip.2021.0.jpg": JPEG,
        "trip.2021.0.txt": "dots",
        "deep/er/c.png": JPEG,
        "deep/er/c.txt": "deep",
        "noext": JPEG,
        "noext.txt": "by content",
        "alone.jpg": JPEG,
        "lost.txt": "no image",
        "empty.jpg": JPEG,
        "empty.txt": " \n",
        "latin.jpg": JPEG,
        "latin.txt": b"caf\xe9",
        "long.jpg": JPEG,
        "long.txt": "x" * (2**20 + 1),
        "page.svg": "<svg/>",
        "page.txt": "no picture",
        "a.json": "{}",
        "README.md": "",
        ".hidden.jpg": JPEG,
        ".git/d.jpg": JPEG,
    }
    folder = put(tmp_path / "images", files)
    made = make_shards(read_rows("folder", images=folder), tmp_path / "out", images=folder)
    by_text = {(row.where, row.cause) for row in made.skipped if row.where != "page.svg"}
    assert by_text == {
        ("alone.jpg", "no .txt beside the image"),
        ("lost.txt", "no image beside the .txt"),
        ("empty.jpg", "empty caption"),
        ("latin.jpg", "caption is not UTF-8"),
        ("long.jpg", "more than 1 MiB of text"),
    }
    assert (made.rows, made.samples) == (11, 5)
    samples = list(wds.WebDataset(str(tmp_path / "out" / "000000.tar"), shardshuffle=False))
    assert [json.loads(sample["json"]) for sample in samples] == [
        {"captions": ["one dog", "two\u2028dogs", "three"], "image": "a.jpg"},
        {"captions": ["a cat"], "image": "b.JPEG"},
        {"captions": ["by content"], "image": "noext"},
        {"captions": ["dots"], "image": "trip.2021.0.jpg"},
        {"captions": ["deep"], "image": "deep/er/c.png"},
    ]
    assert all("." not in sample["__key__"] and sample["jpg"] == JPEG for sample in samples)


def test_links_and_unreadable_things_in_a_folder(tmp_path):
    put(tmp_path / "outside", {"s.jpg": JPEG, "s.txt": "secret"})
    folder = put(tmp_path / "images", {"sub/a.jpg": JPEG, "sub/a.txt": "inside", "b.jpg": JPEG, "c.txt": "c"})
    (folder / "away").symlink_to(tmp_path / "outside")
    (folder / "again").symlink_to("sub")
    (folder / "b.txt").symlink_to(tmp_path / "outside" / "s.txt")
    (folder / "c.jpg").symlink_to(tmp_path / "outside" / "s.jpg")
    (folder / "d.jpg").symlink_to("sub/a.jpg")
    (folder / "d.txt").symlink_to("sub/a.txt")
    os.mkfifo(folder / "e.jpg")
    os.mkfifo(folder / "e.txt")
    made = make_shards(read_rows("folder", images=folder), tmp_path / "out", images=folder)
    assert {(row.where, row.cause) for row in made.skipped} == {
        ("away", "path leaves the image folder by a link"),
        ("again", "linked folder, which is not followed"),
        ("b.jpg", "path leaves the image folder by a link"),
        ("c.jpg", "path leaves the image folder by a link"),
        ("e.jpg", "the .txt cannot be read"),
    }
    assert (made.rows, made.samples) == (7, 2)


def test_folder_as_a_command(tmp_path, capsys):
    folder = put(tmp_path / "images", {"a.jpg": JPEG, "a.txt": "a dog"})
    command.main(["--from", "folder", "--images", str(folder), "--out", str(tmp_path / "out"), "--workers", "1"])
    assert capsys.readouterr().out == "1 samples in 1 shards; skipped 0 rows\n"
    with pytest.raises(InputError, match="annotations: 'x' means nothing to --from folder"):
        command.main(["--from", "folder", "--annotations", "x", "--images", str(folder), "--out", str(tmp_path / "o")])
    with pytest.raises(InputError, match="annotations: none given; --from csv needs a file"):
        command.main(["--from", "csv", "--images", str(folder), "--out", str(tmp_path / "o")])
