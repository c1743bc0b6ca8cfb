"""Odd and broken samples through the real loader: used where that makes sense, else skipped and counted by cause."""

import io
import json
import struct
import zlib
from collections import Counter
from itertools import islice

import numpy as np
import pytest
from data_files import JPEG, NO_AUGMENT, TOKENIZER, config, encode, loader, noise, pair, pairs, write_tar
from PIL import Image

from tcl.data.images import decode_image as decode
from tcl.data.images import whole_image
from tcl.data.shards.plan import epoch_order
from tcl.data.shards.read_shard import DUPLICATE, NO_EXTENSION, TOO_MANY, TRUNCATED, UNREADABLE
from tcl.data.texts import sample_texts

CAPTION = ("x.txt", b"a photo of a dog")


def load(tmp_path, entries, **options):
    """The first batch (of one pair) of a shard with `entries`, and what was counted as bad on the way to it."""
    write_tar(tmp_path / "0.tar", entries)
    options = {"shuffle_buffer": 1, "augment": NO_AUGMENT, **options}
    batches = loader(config(str(tmp_path / "0.tar"), **options), batch_size=1)
    return next(batches), batches.bad.total


def pixels(tmp_path, name: str, content: bytes, **options) -> np.ndarray:
    """The only sample's image [16, 16, 3], 0 .. 255, as signed numbers."""
    batch, bad = load(tmp_path, [(name, content), CAPTION], **options)
    assert bad == {}
    return batch.inputs["image"].view[0].permute(1, 2, 0).numpy().astype(int)


def assert_skipped(tmp_path, entries, cause: str, **options):
    """The sample x made of `entries` is skipped for `cause`, and the good one after it is used."""
    batch, bad = load(tmp_path, [*entries, *pair("y")], **options)
    assert batch.keys == ["0.tar/y"]
    assert bad == {cause: 1}


# Images that are converted


def test_jpeg(tmp_path):
    assert np.array_equal(pixels(tmp_path, "x.jpg", JPEG), np.array(Image.open(io.BytesIO(JPEG))))


@pytest.mark.parametrize("name", ["x.jpg", "x.jpeg", "x.png", "x.webp", "x.gif", "x.bmp", "x.tiff", "x.JPG"])
def test_extension_may_differ_from_the_format(tmp_path, name):
    image = noise(1)
    assert np.array_equal(pixels(tmp_path, name, encode(image, "PNG")), np.array(image))


def test_webp(tmp_path):
    image = noise(1)
    assert np.array_equal(pixels(tmp_path, "x.webp", encode(image, "WEBP", lossless=True)), np.array(image))


def test_cmyk_jpeg(tmp_path):
    content = encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), quality=100)
    assert abs(pixels(tmp_path, "x.jpg", content) - (255, 0, 0)).max() <= 4


def test_grey_jpeg(tmp_path):
    assert (pixels(tmp_path, "x.jpg", encode(Image.new("L", (16, 16), 100))) == 100).all()


def test_one_bit_png(tmp_path):
    assert (pixels(tmp_path, "x.png", encode(Image.new("1", (16, 16), 1), "PNG")) == 255).all()


def test_16_bit_png_is_scaled_not_clipped(tmp_path):
    levels = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    content = encode(Image.fromarray(levels), "PNG")
    assert Image.open(io.BytesIO(content)).mode.startswith("I")
    expected = np.rint(levels / 257)
    assert np.array_equal(pixels(tmp_path, "x.png", content), np.stack([expected] * 3, axis=-1))


def test_32_bit_tiff_is_scaled_not_clipped(tmp_path):
    levels = np.arange(256, dtype=np.int32).reshape(16, 16) * 257
    content = encode(Image.fromarray(levels), "TIFF")
    assert Image.open(io.BytesIO(content)).mode == "I"
    assert np.array_equal(pixels(tmp_path, "x.tif", content)[..., 0], levels / 257)


@pytest.mark.parametrize("full", [1, 255, 1e6])
def test_float_tiff_is_scaled_not_clipped(tmp_path, full):
    levels = np.linspace(0, full, 256, dtype=np.float32).reshape(16, 16)
    levels_with_gap = levels.copy()
    levels_with_gap[0, 0] = np.nan
    found = pixels(tmp_path, "x.tif", encode(Image.fromarray(levels_with_gap), "TIFF"))[..., 0]
    assert np.array_equal(found, np.arange(256).reshape(16, 16))


def test_palette(tmp_path):
    image = noise(1).quantize(16)
    assert np.array_equal(pixels(tmp_path, "x.png", encode(image, "PNG")), np.array(image.convert("RGB")))


def test_palette_with_transparency_on_white(tmp_path):
    image = Image.new("P", (16, 16), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (0, 0, 8, 16))
    found = pixels(tmp_path, "x.png", encode(image, "PNG", transparency=0))
    assert (found[:, :8] == (0, 0, 255)).all()
    assert (found[:, 8:] == 255).all()


def test_rgba_on_white(tmp_path):
    content = encode(Image.new("RGBA", (16, 16), (200, 0, 100, 51)), "PNG")
    by_hand = [0.2 * c + 0.8 * 255 for c in (200, 0, 100)]
    assert abs(pixels(tmp_path, "x.png", content) - by_hand).max() <= 1


def test_grey_with_alpha_on_white(tmp_path):
    assert (pixels(tmp_path, "x.png", encode(Image.new("LA", (16, 16), (7, 0)), "PNG")) == 255).all()


def test_rgb_with_transparent_colour_on_white(tmp_path):
    content = encode(Image.new("RGB", (16, 16), (1, 2, 3)), "PNG", transparency=(1, 2, 3))
    assert (pixels(tmp_path, "x.png", content) == 255).all()


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(tmp_path, format):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    content = encode(frames[0], format, save_all=True, append_images=frames[1:], lossless=True)
    assert Image.open(io.BytesIO(content)).n_frames == 2
    assert (pixels(tmp_path, f"x.{format.lower()}", content) == (255, 0, 0)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, orientation):
    """A camera stores the upright image turned and says so; what comes out is upright."""
    upright = noise(3)
    turned = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](np.array(upright))
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(Image.fromarray(np.ascontiguousarray(turned)), "PNG", exif=exif)
    assert np.array_equal(pixels(tmp_path, "x.png", content), np.array(upright))


def test_broken_exif_does_not_cost_the_image(tmp_path):
    content = encode(noise(), exif=b"Exif\0\0" + b"\xff" * 40)
    assert pixels(tmp_path, "x.jpg", content).shape == (16, 16, 3)


def test_one_pixel(tmp_path):
    content = encode(Image.new("RGB", (1, 1), "red"), "PNG")
    assert (pixels(tmp_path, "x.png", content) == (255, 0, 0)).all()


def test_very_wide_image(tmp_path):
    content = encode(Image.new("RGB", (4000, 1), "red"), "PNG")
    assert (pixels(tmp_path, "x.png", content) == (255, 0, 0)).all()


# Images that are skipped


def test_no_image(tmp_path):
    assert_skipped(tmp_path, [("x.mp3", b"la"), CAPTION], decode.NO_IMAGE)


def test_zero_bytes(tmp_path):
    assert_skipped(tmp_path, [("x.jpg", b""), CAPTION], decode.EMPTY_IMAGE)


@pytest.mark.parametrize("content", [b"not found", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", bytes(1000)])
def test_corrupt_image(tmp_path, content):
    assert_skipped(tmp_path, [("x.jpg", content), CAPTION], whole_image.CORRUPT_IMAGE)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "BMP"])
def test_half_an_image(tmp_path, format):
    content = encode(noise(0, (200, 200)), format)
    assert_skipped(tmp_path, [("x.jpg", content[: len(content) // 2]), CAPTION], whole_image.TRUNCATED_IMAGE)


def png_of_any_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def test_decompression_bomb(tmp_path):
    """Refused from its header: decoding it would take 30 GB."""
    assert_skipped(tmp_path, [("x.png", png_of_any_size(100_000, 100_000)), CAPTION], decode.TOO_LARGE)


@pytest.mark.filterwarnings("error")
def test_pillows_own_limit_is_replaced_by_max_pixels(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert pixels(tmp_path, "x.jpg", JPEG).shape == (16, 16, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_max_pixels_is_the_largest_allowed(tmp_path):
    assert pixels(tmp_path, "x.jpg", JPEG, max_pixels=256).shape == (16, 16, 3)
    small = encode(noise(0, (8, 8)))
    batch, bad = load(tmp_path, [("x.jpg", JPEG), CAPTION, *pair("y", image=small)], max_pixels=255)
    assert batch.keys == ["0.tar/y"]
    assert bad == {decode.TOO_LARGE: 1}


def test_flipped_bits_never_escape(tmp_path):
    """Every damaged image is either used or counted; nothing is raised, nothing is lost."""
    rng = np.random.default_rng(0)
    entries = []
    images = [encode(noise(1, (40, 30)), format) for format in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")]
    for i in range(60):
        damaged = bytearray(images[i % len(images)])
        for at in rng.integers(0, len(damaged), 20):
            damaged[at] = rng.integers(256)
        entries += [(f"{i:03d}.jpg", bytes(damaged)), (f"{i:03d}.txt", b"a dog")]
    write_tar(tmp_path / "0.tar", [*entries, *pair("last")])
    batches = loader(config(str(tmp_path / "0.tar"), shuffle_buffer=1), batch_size=1)
    used = 0
    for batch in batches:
        used += 1
        if batch.keys == ["0.tar/last"]:
            break
    assert used + batches.bad.total.total() == 61
    assert set(batches.bad.total) <= {whole_image.CORRUPT_IMAGE, whole_image.TRUNCATED_IMAGE, decode.TOO_LARGE}


# Captions


def caption(tmp_path, *entries: tuple[str, bytes]) -> str:
    batch, bad = load(tmp_path, [("x.jpg", JPEG), *entries])
    assert bad == {}
    return TOKENIZER.decode(batch.inputs["text"].ids[0, 1:])


def test_text_file(tmp_path):
    assert caption(tmp_path, ("x.txt", b"A dog, on the mat!")) == "a dog on [UNK] mat"


def test_text_file_with_byte_order_mark(tmp_path):
    assert caption(tmp_path, ("x.txt", b"\xef\xbb\xbfa dog")) == "a dog"


@pytest.mark.parametrize(
    "content",
    [{"caption": "a cat"}, {"captions": ["a cat"]}, {"captions": ["", "a cat", "..."]}, {"captions": "a cat"}],
)
def test_json(tmp_path, content):
    assert caption(tmp_path, ("x.json", json.dumps(content).encode())) == "a cat"


def test_json_wins_over_text(tmp_path):
    content = {"caption": "a cat", "url": "http://x", "status": "success"}
    assert caption(tmp_path, ("x.txt", b"a dog"), ("x.json", json.dumps(content).encode())) == "a cat"


@pytest.mark.parametrize("content", [b"{}", b'{"caption": null}', b"{", b"[]", b'{"caption": 3}', b'{"caption": "."}'])
def test_text_is_the_fallback_of_json(tmp_path, content):
    assert caption(tmp_path, ("x.json", content), ("x.txt", b"a dog")) == "a dog"


def test_null_captions_beside_a_caption(tmp_path):
    assert caption(tmp_path, ("x.json", b'{"captions": null, "caption": "a dog"}')) == "a dog"


def test_half_a_surrogate_pair(tmp_path):
    assert caption(tmp_path, ("x.json", rb'{"caption": "a \ud83d dog"}')) == "a dog"


def test_one_of_several_captions_is_drawn_per_visit(tmp_path):
    captions = ["red", "green", "blue"]
    entries = [("x.jpg", JPEG), ("x.json", json.dumps({"captions": captions}).encode())]
    write_tar(tmp_path / "0.tar", entries)
    batches = loader(config(str(tmp_path / "0.tar")), batch_size=30)
    drawn = Counter(TOKENIZER.decode(row[1:]) for row in next(batches).inputs["text"].ids)
    assert set(drawn) == set(captions)


@pytest.mark.parametrize(
    ("entries", "cause"),
    [
        ([], sample_texts.NO_CAPTION),
        ([("x.json", b"{}")], sample_texts.NO_CAPTION),
        ([("x.json", b'{"caption": null}')], sample_texts.NO_CAPTION),
        ([("x.txt", b"")], sample_texts.EMPTY_CAPTION),
        ([("x.txt", b" .,\n")], sample_texts.EMPTY_CAPTION),
        ([("x.txt", b"\0\1")], sample_texts.EMPTY_CAPTION),
        ([("x.json", b'{"captions": []}')], sample_texts.EMPTY_CAPTION),
        ([("x.json", b'{"captions": ["", "?"]}')], sample_texts.EMPTY_CAPTION),
        ([("x.json", b"{}"), ("x.txt", b"")], sample_texts.EMPTY_CAPTION),
        ([("x.txt", "Straße".encode("latin-1"))], sample_texts.NOT_UTF8),
        ([("x.json", '{"caption": "Straße"}'.encode("latin-1"))], sample_texts.NOT_UTF8),
        ([("x.json", b"")], sample_texts.NOT_JSON),
        ([("x.json", b'{"caption": "a dog"')], sample_texts.NOT_JSON),
        ([("x.json", b"[" * 100_000)], sample_texts.NOT_JSON),
        ([("x.json", b'["a dog"]')], sample_texts.NOT_AN_OBJECT),
        ([("x.json", b'{"caption": 3}')], sample_texts.NOT_TEXT),
        ([("x.json", b'{"captions": ["a dog", 3]}')], sample_texts.NOT_TEXT),
        ([("x.json", b'{"captions": {"en": "a dog"}}')], sample_texts.NOT_TEXT),
    ],
)
def test_no_usable_caption(tmp_path, entries, cause):
    assert_skipped(tmp_path, [("x.jpg", JPEG), *entries], cause)


# Shards


def broken_shards(tmp_path, break_first) -> Counter[str]:
    """What is counted in the first of two shards of four samples, which break_first(path) has damaged."""
    for name in ("0", "1"):
        write_tar(tmp_path / f"{name}.tar", pairs(name, 4))
    (tmp_path / "sizes.json").write_text('{"0.tar": 4, "1.tar": 4}')
    break_first(tmp_path / "0.tar")
    seed = next(seed for seed in range(100) if epoch_order([4, 4], seed, 0)[0].shard == 0)
    batches = loader(config(str(tmp_path / "*.tar"), shuffle_buffer=1), batch_size=1, seed=seed)
    assert any(batch.keys == ["1.tar/10000"] for batch in islice(batches, 5))
    return batches.bad.total


def test_tar_truncated_within_a_member(tmp_path):
    def cut(path):
        content = path.read_bytes()
        path.write_bytes(content[: content.index(b"00002.jpg\0") + 600])

    assert broken_shards(tmp_path, cut) == {TRUNCATED: 2}


def test_tar_truncated_within_a_header(tmp_path):
    def cut(path):
        content = path.read_bytes()
        path.write_bytes(content[: content.index(b"00002.jpg\0") + 60])

    assert broken_shards(tmp_path, cut) == {TRUNCATED: 2}


def test_tar_truncated_between_image_and_caption(tmp_path):
    def cut(path):
        content = path.read_bytes()
        path.write_bytes(content[: content.index(b"00002.txt\0")])

    assert broken_shards(tmp_path, cut) == {sample_texts.NO_CAPTION: 1, TRUNCATED: 1}


def test_empty_shard_file(tmp_path):
    assert broken_shards(tmp_path, lambda path: path.write_bytes(b"")) == {UNREADABLE: 4}


def test_shard_that_vanishes_after_the_start(tmp_path):
    for name in ("0", "1"):
        write_tar(tmp_path / f"{name}.tar", pairs(name, 4))
    batches = loader(config(f"{tmp_path}/*.tar"), batch_size=4)
    (tmp_path / "0.tar").unlink()
    assert {key.partition("/")[0] for key in [*next(batches).keys, *next(batches).keys]} == {"1.tar"}
    assert set(batches.bad.total) == {UNREADABLE}


def test_more_samples_than_counted(tmp_path):
    assert broken_shards(tmp_path, lambda path: write_tar(path, pairs("0", 7))) == {TOO_MANY: 1}


def test_stray_and_duplicate_entries(tmp_path):
    entries = [("README", b"hello"), *pair("a"), ("a.txt", b"again"), *pair("b")]
    batch, bad = load(tmp_path, entries)
    assert batch.keys == ["0.tar/b"]
    assert bad == {NO_EXTENSION: 1, DUPLICATE: 1}
