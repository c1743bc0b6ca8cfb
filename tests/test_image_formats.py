"""Images by their bytes: what is read whatever it is called, what is missing, what would take too long."""

import io
import json
import os
import struct
import sys
import tracemalloc
import types
import zlib
from pathlib import Path

import numpy as np
import pytest
from data_files import JPEG, config, encode, loader, noise, pair, write_tar
from PIL import Image
from tiny_pretrained import tiny_tcl

from tcl.commands.main import run
from tcl.data.images.decode_image import decode_image
from tcl.data.images.image_format import HEIC_MISSING, described, extension_of
from tcl.data.images.image_work import MAX_SCANS, SCAN, TOO_MUCH_WORK, count_scans, jpeg_segments
from tcl.data.images.whole_image import CORRUPT_IMAGE, TRUNCATED_IMAGE
from tcl.data.shards.bad_sample import BadSample

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
SVG = b'<?xml version="1.0"?>\n<!-- x -->\n<svg xmlns="http://www.w3.org/2000/svg"/>'
IN_PARTS = (200, 160)


def cause(content: bytes, **options) -> str | None:
    """Why an image is refused; None where it is not."""
    try:
        decode_image(content, **{"max_pixels": 10**8, **options})
    except BadSample as problem:
        return str(problem)
    return None


def smooth(size: tuple[int, int] = IN_PARTS) -> Image.Image:
    """Like a photograph: its bytes are spread over all of it."""
    return noise(0, (size[0] // 8, size[1] // 8)).resize(size, Image.Resampling.BICUBIC)


# What is read


@pytest.mark.parametrize("name", ["x.avif", "x.jpg", "x.JPG"])
def test_avif(tmp_path, name):
    content = encode(Image.new("RGB", (16, 16), "red"), "AVIF", quality=100)
    assert abs(decode_image(content, max_pixels=256).astype(int) - (255, 0, 0)).max() <= 3
    write_tar(tmp_path / "0.tar", [(name, content), ("x.txt", b"a dog")])
    batches = loader(config(str(tmp_path / "0.tar")), batch_size=1)
    assert next(batches).keys == ["0.tar/x"] and batches.bad.total == {}


@pytest.mark.parametrize("extension", ["jfif", "jpe", "JFIF", "Jpg"])
def test_other_names_of_jpeg(tmp_path, extension):
    write_tar(tmp_path / "0.tar", [(f"x.{extension}", JPEG), ("x.txt", b"a dog")])
    batches = loader(config(str(tmp_path / "0.tar")), batch_size=1)
    assert next(batches).keys == ["0.tar/x"] and batches.bad.total == {}


def test_heic_needs_a_package_and_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert cause(HEIC) == HEIC_MISSING


def test_heic_is_read_by_that_package(monkeypatch):
    """Here it is a stand-in, which reads a PNG behind HEIC's first bytes."""

    def open_png(file, filename):
        return Image.open(io.BytesIO(file.read()[len(HEIC) :]), formats=("PNG",))

    def register() -> None:
        Image.register_open("HEIF", open_png, lambda start: start[4:12] == b"ftypheic")

    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register))
    for known in ("OPEN", "ID"):
        monkeypatch.setattr(Image, known, type(getattr(Image, known))(getattr(Image, known)))
    image = noise()
    assert np.array_equal(decode_image(HEIC + encode(image, "PNG"), max_pixels=256), np.asarray(image))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (SVG, "SVG is not read"),
        (b" \n<SVG width='1'>", "SVG is not read"),
        (b"<!DOCTYPE html><html><body><svg></svg>", "HTML, no image"),
        (b"\xef\xbb\xbf<html>404</html>", "HTML, no image"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML, no image"),
        (b"%PDF-1.7", "PDF, no image"),
        (b"\0\0\0\x0cjP  \r\n", "JPEG 2000 is not read"),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp41", "sound or video, no image"),
        (b"RIFF\0\0\0\0WAVEfmt ", "sound or video, no image"),
    ],
)
def test_what_is_no_image_is_named(content, what):
    assert cause(content) == described(content) == what


def test_what_is_unknown_is_a_corrupt_image_by_its_name_and_else_described():
    assert cause(b"just text") == cause(b"\x01\x02") == CORRUPT_IMAGE
    assert [described(content) for content in (b"just text", "é".encode() * 600, b"\x01", b"")] == [
        "text, no image",
        "text, no image",
        "unknown format, no image",
        "empty file",
    ]


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_the_extension_that_an_image_is_stored_under(format):
    assert extension_of(encode(noise(), format)) == {"JPEG": "jpg"}.get(format, format.lower())


# What is missing


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("min_side", [None, 30])
def test_half_a_jpeg_with_an_end_marker(mode, progressive, min_side):
    content = encode(smooth().convert(mode), progressive=progressive)
    assert cause(content, min_side=min_side) is None
    half = content[: len(content) // 2]
    assert cause(half + b"\xff\xd9", min_side=min_side) == TRUNCATED_IMAGE
    assert cause(half + bytes(len(content) - len(half)), min_side=min_side) in (TRUNCATED_IMAGE, CORRUPT_IMAGE)


def test_a_progressive_jpeg_that_ends_between_two_scans():
    content = encode(smooth(), progressive=True)
    scans = [at for marker, at in jpeg_segments(content) if marker == SCAN]
    assert len(scans) == 10 and cause(content) is None
    for end in scans[1:]:
        assert cause(content[: end - 2] + b"\xff\xd9") == TRUNCATED_IMAGE


@pytest.mark.parametrize("min_side", [None, 30])
def test_what_libjpeg_says_of_bytes_between_segments_costs_no_image(min_side):
    content = encode(smooth(), restart_marker_blocks=4)
    at = content.index(b"\xff\xda")
    for odd in (content[:at] + b"\x12\x34" + content[at:], content[:-2] + b"\x12" + content[-2:], content + bytes(99)):
        assert cause(odd, min_side=min_side) is None


@pytest.mark.parametrize("side", [17, 40, 99])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_smaller_jpeg_has_the_pixels_of_pillows_draft(side, options):
    content = encode(noise(3, (333, 221)), **options)
    drafted = Image.open(io.BytesIO(content))
    drafted.draft(None, (side, side))
    assert drafted.size != (333, 221)
    assert np.array_equal(decode_image(content, max_pixels=10**6, min_side=side), np.asarray(drafted))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("AVIF", {}),
        ("GIF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_deflate"}),
    ],
)
def test_a_zeroed_tail(format, options, share):
    content = encode(noise(0, IN_PARTS), format, **options)
    assert cause(content) is None
    kept = int(share * len(content))
    assert cause(content[:kept] + bytes(len(content) - kept)) in (CORRUPT_IMAGE, TRUNCATED_IMAGE)


@pytest.mark.parametrize("image", [smooth((512, 512)), Image.new("RGB", (2000, 1500), "black")])
def test_even_areas_are_no_zeroed_tail(image):
    for format, options in (("WEBP", {}), ("WEBP", {"lossless": True}), ("AVIF", {}), ("PNG", {})):
        assert cause(encode(image, format, **options)) is None


def test_a_png_whose_checksums_are_wrong_or_whose_end_is_missing():
    content = encode(noise(0, IN_PARTS), "PNG")
    at = content.index(b"IDAT") + 40
    assert cause(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]) == CORRUPT_IMAGE
    assert cause(content[:-12]) == TRUNCATED_IMAGE
    assert cause(content[:-3] + bytes(3)) == CORRUPT_IMAGE
    assert cause(content + b"what some tools append") is None


def test_zeros_in_a_bmp_are_black_pixels():
    """They cannot be told from an image that is black there."""
    content = encode(noise(0, IN_PARTS), "BMP")
    assert cause(content[: len(content) // 2] + bytes(len(content) - len(content) // 2)) is None


# What would take too long


def many_scans(scans: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    content = encode(noise(0, (64, 64)), progressive=True)
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * (scans - count_scans(content)) + b"\xff\xd9"


@pytest.mark.parametrize("min_side", [None, 16])
def test_progressive_jpegs_of_many_scans(min_side):
    assert count_scans(encode(noise())) == 1 and count_scans(encode(noise(), progressive=True)) == 10
    assert count_scans(many_scans(MAX_SCANS)) == MAX_SCANS
    assert cause(many_scans(MAX_SCANS), min_side=min_side) is None
    assert cause(many_scans(MAX_SCANS + 1), min_side=min_side) == TOO_MUCH_WORK
    assert cause(many_scans(50), min_side=min_side, max_pixels=64 * 64) == TOO_MUCH_WORK
    assert cause(many_scans(20), min_side=min_side, max_pixels=64 * 64) is None


def test_scans_of_previews_are_not_counted():
    exif = b"Exif\0\0" + b"\xff\xda" * (2 * MAX_SCANS)
    content = encode(noise(), progressive=True, exif=exif)
    assert content.count(b"\xff\xda") > 2 * MAX_SCANS and count_scans(content) == 10
    assert cause(content) is None


def png_with(chunks: bytes) -> bytes:
    content = encode(noise(), "PNG")
    return content[:33] + chunks + content[33:]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def tiff(entries: list[tuple[int, int, int, int]]) -> bytes:
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + body + bytes(4 + 2**16)


TOO_LONG = {
    "jpeg of a million segments": b"\xff\xd8" + b"\xff\xfe\0\2" * 10**6,
    "png of a million chunks": png_with(chunk(b"tEXt", b"") * 10**5),
    "gif of comments": b"GIF89a\1\0\1\0\0\0\0!\xfe" + (b"\xff" + b"x" * 255) * 2**13 + b"\0;",
    "tiff that reads itself": tiff([(700 + i, 7, 60_000, 8) for i in range(1000)]),
    "tiff of an enormous tile": tiff([(322, 4, 1, 2**20), (323, 4, 1, 2**20)]),
    "bmp of runs": encode(Image.new("P", (9, 9)), "BMP")[:30] + b"\1\0\0\0" + bytes(5 * 2**20),
}


@pytest.mark.parametrize("name", TOO_LONG)
def test_headers_that_cost_more_than_pixels(name):
    assert cause(TOO_LONG[name]) == TOO_MUCH_WORK


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_compressed_texts_in_a_png(kind):
    bomb = png_with(chunk(kind, b"x\0\0" + zlib.compress(bytes(2**26))))
    tracemalloc.start()
    try:
        cause(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


# tcl encode --images


def test_encode_reads_images_by_content_and_names_every_other_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny_tcl().save_pretrained("model")
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    files = {
        "1.jpg": JPEG,
        "2.jfif": JPEG,
        "3.jpe": JPEG,
        "4.avif": encode(noise(), "AVIF"),
        "5.jpg": encode(noise(), "AVIF"),
        "deep/noext": JPEG,
    }
    other = {
        "6.jpg": (SVG, "SVG is not read"),
        "7.heic": (HEIC, HEIC_MISSING),
        "8.jpg": (b"<html>404", "HTML, no image"),
        "9.jpg": (b"?", CORRUPT_IMAGE),
        "notes.txt": (b"a dog", "text, no image"),
        "deep/Thumbs.db": (b"\xd0\xcf\x11\xe0", "unknown format, no image"),
        "empty": (b"", "empty file"),
    }
    for name, content in [*files.items(), *((name, content) for name, (content, _) in other.items())]:
        (tmp_path / "photos" / name).write_bytes(content)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    run(["encode", "model", "--images=photos", "--out=a.npy", "--workers=0"])
    assert json.loads(Path("a.ids.json").read_text()) == sorted(files)
    found = {one["id"]: one["cause"] for one in json.loads(Path("a.skipped.json").read_text())}
    assert found == {name: what for name, (_, what) in other.items()}
    assert "skipped 7 (1 " in capsys.readouterr().out


def test_encode_waits_for_no_pipe_and_reads_no_device_nor_giant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tcl.data.images.read_images.MAX_FILE_BYTES", 2000)
    tiny_tcl().save_pretrained("model")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "good.jpg").write_bytes(JPEG)
    (photos / "large.jpg").write_bytes(JPEG + bytes(2001))
    (photos / "zero.jpg").symlink_to("/dev/zero")
    (photos / "album").symlink_to(tmp_path)
    os.mkfifo(photos / "a.jpg")
    run(["encode", "model", "--images=photos", "--out=a.npy", "--workers=0"])
    assert json.loads(Path("a.ids.json").read_text()) == ["good.jpg"]
    found = {one["id"]: one["cause"] for one in json.loads(Path("a.skipped.json").read_text())}
    assert found == {
        "a.jpg": "device, pipe or socket, not read",
        "zero.jpg": "device, pipe or socket, not read",
        "album": "folder behind a link, not entered",
        "large.jpg": "file of more than 2,000 bytes",
    }


def test_shards_of_other_images_are_counted_by_what_they_are(tmp_path):
    entries = [*pair("a", image=SVG), *pair("b", image=b"<html>"), *pair("c"), ("d.heic", HEIC), ("d.txt", b"a dog")]
    write_tar(tmp_path / "0.tar", entries)
    batches = loader(config(str(tmp_path / "0.tar"), shuffle_buffer=1), batch_size=2)
    assert next(batches).keys == ["0.tar/c"] * 2
    assert set(batches.bad.total) >= {"SVG is not read", "HTML, no image"}
