"""What people may hand to a loaded model, and the line they get where it cannot be used."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from data_files import TOKENIZER, encode, noise
from PIL import Image
from tiny_pretrained import tiny_tcl

from tcl import TCL
from tcl.errors import InputError
from tcl.inference.images import MAX_PIXELS, ONE_OF, read_image
from tcl.inference.texts import list_texts, tokenize_texts

ACCEPTED = "give a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF of at most 100,000,000 pixels$"


@pytest.fixture(scope="module")
def model() -> TCL:
    return tiny_tcl()


def claims(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims to be this large."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(13, header), (1000, b"IDAT")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", n) + c + struct.pack(">I", zlib.crc32(c)) for n, c in chunks
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be used: empty image file"),
        (b"%PDF-1.7 no image at all", "cannot be used: PDF, no image"),
        (encode(noise(size=(64, 64)))[:-300], "cannot be used: truncated image"),
        (claims(100_000, 100_000), "cannot be used: too many pixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be used: PostScript, no image"),
    ],
)
def test_files_that_are_no_images(model, tmp_path, content, said):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"^images\[1\]: '{path}' {said}; {ACCEPTED}"):
        model.encode_image([noise(), path])


def test_paths_where_no_file_is(model, tmp_path):
    for path in (tmp_path / "none.jpg", tmp_path, "/dev/zero", "a" * 5000):
        with pytest.raises(
            InputError, match=rf"^images\[0\]: .*{str(path)[-9:]}' (is no|cannot be read).*; {ACCEPTED}"
        ):
            model.encode_image(path)


def test_paths_and_pillow_images_have_the_same_limit_on_pixels(monkeypatch, tmp_path):
    assert MAX_PIXELS == 100_000_000
    monkeypatch.setattr("tcl.inference.images.MAX_PIXELS", 256)
    for size in ((16, 16), (16, 17)):
        noise(size=size).save(tmp_path / f"{size[1]}.png")
    assert read_image(tmp_path / "16.png", "image").shape == read_image(noise(), "image").shape == (16, 16, 3)
    with pytest.raises(
        InputError, match=r"^image: '.*17\.png' cannot be used: too many pixels; .* at most 256 pixels$"
    ):
        read_image(tmp_path / "17.png", "image")
    with pytest.raises(InputError, match=r"^image: a PIL image of 16 x 17 pixels; .* at most 256 pixels$"):
        read_image(noise(size=(16, 17)), "image")
    with pytest.raises(InputError, match=r"^image: a PIL image of 0 x 5 pixels; give"):
        read_image(Image.new("RGB", (0, 5)), "image")


def test_a_pillow_image_that_turns_out_to_be_truncated():
    opened = Image.open(io.BytesIO(encode(noise(size=(64, 64)))[:-300]))
    with pytest.raises(InputError, match=rf"^image: a PIL image cannot be read \(.*truncated.*\); {ACCEPTED}"):
        read_image(opened, "image")


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ([], "images: there are none; give at least one"),
        (None, f"images: a NoneType is no image; give {ONE_OF}, or a list of them"),
        ([noise(), 3], rf"images\[1\]: a int is no image; give {ONE_OF}"),
        ([[noise()]], rf"images\[0\]: a list is no image; give {ONE_OF}"),
    ],
)
def test_what_is_no_image(model, images, said):
    with pytest.raises(InputError, match=f"^{said}$"):
        model.encode_image(images)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        ("", r"texts\[0\]: '' has no words; give a text"),
        (["a dog", " ?! "], r"texts\[1\]: ' \?! ' has no words; give a text"),
        ("dog " * 10_000, r"texts\[0\]: 10,000 words; give a caption of a few words, 1,000 at most"),
        ([], "texts: there are none; give at least one"),
        (["a dog", "\u200b"], r"texts\[1\]: '\\u200b' has no words; give a text"),
        (["a dog", None], r"texts\[1\]: a NoneType is no text; give a string"),
        (7, "texts: a int is no text; give a string or a list of strings"),
    ],
)
def test_what_is_no_text(model, texts, said):
    with pytest.raises(InputError, match=f"^{said}$"):
        model.encode_text(texts)


def test_single_arguments_are_checked_as_well(model):
    with pytest.raises(InputError, match=r"^image\[0\]: a list is no image"):
        model.explain([noise()], "a dog")
    with pytest.raises(InputError, match=r"^text\[0\]: a list is no text"):
        model.explain(noise(), ["a dog"])
    with pytest.raises(InputError, match=r"^text\[0\]: '\\u200b' has no words"):
        model.explain(noise(), "\u200b")
    with pytest.raises(InputError, match=r"^image\[0\]: a float is no image"):
        model.fill_mask(0.5, "a [MASK]")
    with pytest.raises(InputError, match=r"^image\[0\]: 'none\.jpg' is no file"):
        model.fill_mask("none.jpg", "a [MASK]")


def test_generators_and_tuples_of_paths(model, tmp_path):
    for i in range(3):
        noise(i).save(tmp_path / f"{i}.png")
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    expected = model.encode_image([noise(i) for i in range(3)])
    for images in (paths, tuple(map(str, paths)), (path for path in paths)):
        np.testing.assert_array_equal(model.encode_image(images), expected)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("a red dog", ["a", "red", "dog"]),  # as it is
        ("a red dog on mat", ["a", "red", "dog", "on", "mat"]),  # 5 words, 6 tokens: both limits
        ("a red dog on mat cat", ["a", "red", "dog", "on", "mat"]),  # one word too many
        ("a red dog tree-mat", ["a", "red", "dog", "[UNK]", "mat"]),
    ],
)
def test_texts_are_cut_with_a_warning(text, tokens):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ids, mask = tokenize_texts(list_texts([text, "a"]), TOKENIZER, max_words=5, max_tokens=6)
    assert TOKENIZER.convert_ids_to_tokens(ids[0].tolist()) == ["[CLS]", *tokens]
    assert mask.tolist() == [[1] * (1 + len(tokens)), [1, 1] + [0] * (len(tokens) - 1)]
    said = [str(warning.message) for warning in caught]
    too_long = text == "a red dog on mat cat"
    assert (
        said
        == ["texts: 1 of 2 longer than the 5 words and 6 tokens that this model reads; the rest of them is left out"]
        * too_long
    )


def test_tokens_beyond_the_limit_are_cut_with_a_warning():
    with pytest.warns(UserWarning, match=r"^texts: 1 of 2 longer than the 30 words and 4 tokens"):
        ids, mask = tokenize_texts(["a red dog on mat", "a red dog"], TOKENIZER, max_words=30, max_tokens=4)
    assert ids[0].equal(ids[1]) and mask.all() and ids.shape == (2, 4)
