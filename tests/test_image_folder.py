"""What the names in annotations may reach: files of --images, and nothing else that lies on the machine."""

import io
import json
import os
import socket
from pathlib import Path

import pytest
import webdataset as wds
from data_files import JPEG, noise

from tcl.annotations import pack_row as packing
from tcl.annotations.make_shards import ShardsReport, make_shards
from tcl.annotations.row import Row
from tcl.data.images.image_format import extension_of

OUTSIDE = "path leaves the image folder"
BY_LINK = "path leaves the image folder by a link"
ABSOLUTE = "path leaves the image folder; --images / takes absolute ones"


@pytest.fixture
def images(tmp_path) -> Path:
    """A folder of two images, with one outside it."""
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    for path in (folder / "a.jpg", folder / "sub" / "b.jpg", tmp_path / "outside" / "secret.jpg"):
        path.write_bytes(JPEG)
    return folder


def packed(images: Path, *names: str, **options) -> ShardsReport:
    rows = [Row(f"item {i}", name, {"captions": ["x"], "image": name}) for i, name in enumerate(names)]
    return make_shards(rows, images.parent / "out", images=images, workers=1, overwrite=True, **options)


def causes(images: Path, *names: str, **options) -> list[str | None]:
    """Why each row is skipped, None for those that are not; one more row is always good."""
    skipped = {row.where: row.cause for row in packed(images, *names, "a.jpg", **options).skipped}
    return [skipped.get(f"item {i}") for i in range(len(names))]


def test_links_out_of_the_folder_are_not_followed(images, tmp_path):
    (images / "file.jpg").symlink_to(tmp_path / "outside" / "secret.jpg")
    (images / "relative.jpg").symlink_to("../outside/secret.jpg")
    (images / "folder").symlink_to(tmp_path / "outside")
    (images / "chain.jpg").symlink_to("folder/secret.jpg")
    (images / "within.jpg").symlink_to("sub/b.jpg")
    (images / "loop.jpg").symlink_to("loop.jpg")
    names = ["file.jpg", "relative.jpg", "folder/secret.jpg", "chain.jpg", "folder/../outside/secret.jpg"]
    assert causes(images, *names, "within.jpg", "folder/gone.jpg") == [BY_LINK] * 5 + [None, BY_LINK]
    assert causes(images, "loop.jpg") != [None]


def test_the_folder_itself_may_be_a_link(images, tmp_path):
    (tmp_path / "link").symlink_to("images")
    assert causes(tmp_path / "link", "sub/b.jpg", str(images / "sub" / "b.jpg")) == [None, None]


def test_absolute_paths_count_inside_the_folder_alone(images, tmp_path, monkeypatch):
    secret, inside = str(tmp_path / "outside" / "secret.jpg"), str(images / "sub" / "b.jpg")
    assert causes(images, inside, secret, "../outside/secret.jpg") == [None, ABSOLUTE, OUTSIDE]
    rows = [Row("item 0", secret, {"captions": ["x"], "image": secret})]
    assert make_shards(rows, tmp_path / "all", images=Path("/"), workers=1).samples == 1  # what the cause advises
    monkeypatch.chdir(tmp_path)
    assert causes(Path("images"), inside, secret) == [None, ABSOLUTE]


def test_names_are_files_never_commands_or_addresses(images, tmp_path, monkeypatch):
    monkeypatch.chdir(images)
    names = ["pipe:touch PWNED", "http://localhost/a.jpg", f"file://{images}/a.jpg", "~/a.jpg", "|touch PWNED", "-"]
    assert causes(images, *names) == ["missing image file"] * len(names)
    assert not (images / "PWNED").exists()
    (images / "pipe:touch PWNED;.jpg").write_bytes(JPEG)
    assert causes(images, "pipe:touch PWNED;.jpg") == [None]
    assert not (images / "PWNED").exists()


def test_special_files_are_named_and_never_opened(images, monkeypatch):
    os.mkfifo(images / "pipe.jpg")
    monkeypatch.chdir(images)  # a socket's path may have no more than a hundred characters
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket.jpg")
    (images / "zero.jpg").symlink_to("/dev/zero")
    assert causes(images, "pipe.jpg", "socket.jpg", "zero.jpg", "sub") == [
        "not a regular file",
        "not a regular file",
        BY_LINK,
        "missing image file",
    ]
    assert causes(images, "\ud800.jpg", "nul\0.jpg", "a.jpg/b.jpg") == ["missing image file"] * 3
    assert [row.cause for row in packed(images, "/dev/zero", "a.jpg").skipped] == [ABSOLUTE]


def test_devices_with_the_whole_machine_as_image_folder(tmp_path):
    (tmp_path / "a.jpg").write_bytes(JPEG)
    names = ["/dev/zero", "/dev/full", str(tmp_path / "a.jpg")]
    rows = [Row(f"item {i}", name, {"captions": ["x"], "image": name}) for i, name in enumerate(names)]
    made = make_shards(rows, tmp_path / "out", images=Path("/"), workers=1)
    assert [row.cause for row in made.skipped] == ["not a regular file"] * 2 and made.samples == 1


def test_files_beyond_the_bound_are_not_read(images):
    with (images / "sparse.jpg").open("wb") as file:
        file.truncate(2**33)
    (images / "beyond.jpg").write_bytes(JPEG + b"\0")
    many = "image file has too many bytes"
    assert causes(images, "sparse.jpg", "sub/b.jpg", "beyond.jpg", max_image_bytes=len(JPEG)) == [many, None, many]


def test_an_exception_that_is_not_ours_costs_one_row(images, monkeypatch):
    def decode(content: bytes, **options):
        if content == b"odd":
            raise ZeroDivisionError
        return real(content, **options)

    real = packing.decode_image
    monkeypatch.setattr(packing, "decode_image", decode)
    (images / "odd.jpg").write_bytes(b"odd")
    row = Row("item 0", "odd.jpg", {"captions": ["x"], "image": "odd.jpg"})
    options = {"max_side": None, "quality": 90, "max_pixels": 10**6, "max_image_bytes": 10**6}
    assert packing.pack_row(row, images, **options).cause == "ZeroDivisionError while reading"


def test_a_name_without_end_does_not_fill_the_report(images):
    (skipped,) = packed(images, "n" * 10_000_000, "a.jpg").skipped
    assert skipped.cause == "image file cannot be read" and skipped.image == "n" * 4096


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_the_extension_follows_from_the_content(format):
    stream = io.BytesIO()
    noise(0).save(stream, format)
    assert extension_of(stream.getvalue()) == {"JPEG": "jpg"}.get(format, format.lower())
    big_endian = b"MM\0*" + bytes(8)
    assert extension_of(big_endian) == "tiff"
    assert extension_of(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic") == "heic"


def test_keys_have_no_dots_whatever_images_are_called(images):
    names = ["trip.2021.0.jpg", "trip.jpg", "sub/trip.1.jpg"]
    for name in names:
        (images / name).write_bytes(JPEG)
    assert causes(images, *names) == [None] * 3
    samples = list(wds.WebDataset(str(images.parent / "out" / "000000.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"00000000{i}" for i in range(4)]
    assert [json.loads(sample["json"])["image"] for sample in samples] == [*names, "a.jpg"]
