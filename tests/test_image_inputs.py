"""Images in every form in which people hold them give the pixels of the file; what could mean two things is refused."""

import io
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from data_files import encode, noise
from PIL import Image
from tiny_pretrained import tiny_tcl, tiny_vqa

from tcl.errors import InputError
from tcl.inference import files as files_module
from tcl.inference import images as images_module
from tcl.inference.images import list_images, read_image

PICTURE = noise(3, (6, 5))
PIXELS = np.asarray(PICTURE)
GREY = np.asarray(PICTURE.convert("L"))
PNG = encode(PICTURE, "PNG")


def read(image) -> np.ndarray:
    (listed,) = list_images(image)
    return read_image(listed, "images[0]")


@pytest.mark.parametrize(
    "image",
    [
        PNG,
        bytearray(PNG),
        memoryview(PNG),
        io.BytesIO(PNG),
        PICTURE,
        PIXELS,
        PIXELS[::-1][::-1],
        PIXELS.astype(np.float32) / 255,
        PIXELS / 255,
        torch.from_numpy(PIXELS.copy()).permute(2, 0, 1),
        (torch.from_numpy(PIXELS.copy()).permute(2, 0, 1) / 255).requires_grad_(),
    ],
    ids=lambda image: f"{type(image).__name__}-{getattr(image, 'dtype', '')}",
)
def test_the_same_pixels_in_every_form(image):
    np.testing.assert_array_equal(read(image), PIXELS)


@pytest.mark.parametrize(
    "image", [GREY, GREY[:, :, None], torch.from_numpy(GREY.copy()), torch.from_numpy(GREY.copy())[None] / 255]
)
def test_one_colour_is_grey(image):
    np.testing.assert_array_equal(read(image), np.repeat(GREY[:, :, None], 3, axis=2))


def test_a_fourth_colour_is_how_much_shows_on_white():
    alpha = np.array([[0, 255]], np.uint8)
    image = np.dstack([np.full((1, 2, 3), 10, np.uint8), alpha])
    expected = [[[255] * 3, [10] * 3]]
    np.testing.assert_array_equal(read(image), expected)
    np.testing.assert_array_equal(read(torch.from_numpy(image).permute(2, 0, 1)), expected)


def test_half_precision_is_as_near_as_its_numbers_are():
    for dtype in (torch.float16, torch.bfloat16):
        found = read(torch.from_numpy(PIXELS / 255).permute(2, 0, 1).to(dtype))
        assert abs(found.astype(int) - PIXELS).max() <= 1


def test_opened_files_are_read_from_their_beginning_and_may_be_closed_afterwards(tmp_path):
    path = tmp_path / "photo"
    path.write_bytes(PNG)
    with path.open("rb") as file:
        file.read(7)
        (listed,) = list_images(file)
    np.testing.assert_array_equal(read_image(listed, "image"), PIXELS)
    with tempfile.SpooledTemporaryFile() as spooled:
        spooled.write(PNG)
        np.testing.assert_array_equal(read(spooled), PIXELS)


def test_a_pipe_is_read_as_it_comes():
    here, there = os.pipe()
    with os.fdopen(there, "wb") as out:
        out.write(PNG)
    with os.fdopen(here, "rb") as pipe:
        np.testing.assert_array_equal(read(pipe), PIXELS)


def test_a_fourth_axis_counts_images(tmp_path):
    model = tiny_tcl()
    several = np.stack([np.asarray(noise(i)) for i in range(3)])
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for i, path in enumerate(paths):
        noise(i).save(path)
    expected = model.encode_image(paths)
    for batch in (several, torch.from_numpy(several).permute(0, 3, 1, 2), several / 255):
        np.testing.assert_array_equal(model.encode_image(batch), expected)
    np.testing.assert_array_equal(model.encode_image(np.array([str(path) for path in paths])), expected)
    mixed = [paths[0], several[1], io.BytesIO(encode(noise(2), "PNG"))]
    np.testing.assert_array_equal(model.encode_image(mixed), expected)


def test_every_method_takes_them():
    model, other = tiny_tcl(), tiny_vqa()
    tensor = torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)
    np.testing.assert_array_equal(model.match(PNG, "a dog"), model.match(PICTURE, "a dog"))
    found, expected = (model.retrieve(query, ["a dog", "red cat"], k=2) for query in (tensor, PICTURE))
    np.testing.assert_array_equal(found.match_scores, expected.match_scores)
    corpus = [io.BytesIO(PNG), PIXELS, noise(1)]
    np.testing.assert_array_equal(model.retrieve("a dog", corpus, k=3).similarities.shape, (1, 3))
    np.testing.assert_array_equal(model.explain(PIXELS, "a dog").of_words, model.explain(PICTURE, "a dog").of_words)
    assert model.fill_mask(PNG, "a [MASK]") == model.fill_mask(PICTURE, "a [MASK]")
    assert other.answer(tensor, "what is it") == other.answer(PICTURE, "what is it")


class Endless(io.RawIOBase):
    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return bytes(size)


class Failing(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        raise KeyError("gone")


NUMPY = r"accepted: \[H, W, 3\], or \[H, W, 1\] or \[H, W\] for grey"
TENSOR = r"accepted: \[3, H, W\], or \[1, H, W\] or \[H, W\] for grey"
RANGE = "accepted: floats from 0 to 1, not normalised, or uint8 from 0 to 255"


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (PIXELS.transpose(2, 0, 1), rf"a numpy array of shape \[3, 5, 6\]; {NUMPY}"),
        (torch.from_numpy(PIXELS.copy()), rf"a tensor of shape \[5, 6, 3\]; {TENSOR}"),
        (np.float32(0.5), "images: a float32 is no image"),
        (np.zeros(9, np.uint8), rf"a numpy array of shape \[9\]; {NUMPY}"),
        (torch.tensor(1.0), rf"a tensor of shape \[\]; {TENSOR}"),
        (np.zeros((1, 1, 4, 4, 3), np.uint8), rf"a numpy array of shape \[1, 1, 4, 4, 3\]; {NUMPY}"),
        (np.zeros((0, 4, 3), np.uint8), r"a numpy array of shape \[0, 4, 3\]; accepted: 1 to 100,000,000 pixels"),
        (PIXELS.astype(np.float32), rf"a numpy array of shape .* and type float32 goes from 0 to 25\d; {RANGE}"),
        (PIXELS / 127.5 - 1, rf"a numpy array of shape .* and type float64 goes from -.* to .*; {RANGE}"),
        (np.full((4, 4), np.nan), rf"a numpy array of shape \[4, 4\] and type float64 goes from nan to nan; {RANGE}"),
        (torch.full((3, 4, 4), float("inf")), rf"a tensor of shape .* and type float32 goes from inf to inf; {RANGE}"),
        (PIXELS.astype(np.int64), "a numpy array of shape .* and type int64; accepted: uint8 from 0 to 255, or floats"),
        (GREY > 9, "a numpy array of shape .* and type bool; accepted: uint8"),
        (torch.zeros(3, 4, 4, device="meta"), r"a tensor of shape \[3, 4, 4\] is sparse, quantised or without values"),
        (torch.zeros(4, 4).to_sparse(), "a tensor of shape .* is sparse"),
        (b"", "0 bytes cannot be used: empty image file"),
        (b"no image", "8 bytes cannot be used: .*; give a JPEG"),
        (io.BytesIO(PNG[:60]), "60 bytes cannot be used: .* image; give a JPEG"),
        (io.StringIO("text"), "the file cannot be read .*; give one opened with 'rb'"),
        (Failing(), "the file cannot be read .*gone.*; give one opened with 'rb'"),
        (Endless(), "cannot be used: over 1,000,000 bytes; give a JPEG"),
    ],
)
def test_what_could_mean_two_things_or_nothing_is_one_line(image, said, monkeypatch):
    monkeypatch.setattr(files_module, "MAX_BYTES", 10**6)
    with pytest.raises(InputError, match=r"^images") as refused:
        read(image)
    assert len(str(refused.value).splitlines()) == 1
    assert refused.match(rf"^(images\[0\]: )?.*{said}")


def test_a_closed_file_and_one_that_is_larger_than_any_image(tmp_path, monkeypatch):
    closed = io.BytesIO(PNG)
    closed.close()
    with pytest.raises(InputError, match=r"^images\[0\]: the file cannot be read \(I/O operation on closed file"):
        read(closed)
    monkeypatch.setattr(files_module, "MAX_BYTES", 1000)
    Path(tmp_path / "large.png").write_bytes(bytes(5000))
    with pytest.raises(InputError, match=r"^images\[0\]: '.*large\.png' cannot be used: over 1,000 bytes; give a JPEG"):
        read(tmp_path / "large.png")


def test_arrays_have_the_limit_of_files_on_pixels(monkeypatch):
    monkeypatch.setattr(images_module, "MAX_PIXELS", 30)
    np.testing.assert_array_equal(read(PIXELS), PIXELS)
    with pytest.raises(
        InputError, match=r"^images\[0\]: a numpy array of shape \[5, 7, 3\]; accepted: 1 to 30 pixels$"
    ):
        read(np.zeros((5, 7, 3), np.uint8))


def test_one_text_for_all_images_and_one_image_for_all_texts():
    model = tiny_tcl()
    images, texts = [noise(i) for i in range(3)], ["a dog", "a red cat on mat", "blue"]
    grid = model.match_grid(images, texts)
    np.testing.assert_allclose(model.match(images, texts[1]), grid[:, 1], rtol=1e-5)
    np.testing.assert_allclose(model.match(images, [texts[1]]), grid[:, 1], rtol=1e-5)
    np.testing.assert_allclose(model.match(images[2], texts), grid[2], rtol=1e-5)
    np.testing.assert_allclose(model.match(images, texts), grid.diagonal(), rtol=1e-5)
    assert model.match(images[0], texts[0]).shape == (1,)
    with pytest.raises(
        InputError, match=r"^texts: 2 for 3 images; give one for each, or one for all, or use match_grid"
    ):
        model.match(images, texts[:2])


def test_a_picture_held_as_palette_stays_what_it_was():
    palette = Image.fromarray(PIXELS).quantize(7)
    np.testing.assert_array_equal(read(palette), np.asarray(palette.convert("RGB")))
