"""Ordinary JPEGs take a faster decoder than Pillow: the pixels are Pillow's, and so is what is refused."""

import io
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from data_files import encode, noise
from PIL import Image

from tcl.data.images.decode_image import decode_image


def by_pillow(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"subsampling": 1}, {"progressive": True}, {"quality": 5}])
def test_a_jpeg_has_pillows_pixels(options):
    content = encode(noise(0, (37, 23)).resize((111, 67)), **options)
    found = decode_image(content, max_pixels=10**6)
    assert found.dtype == np.uint8 and found.flags.writeable
    assert np.array_equal(found, by_pillow(content))


def test_a_jpeg_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held with its left side up
    content = encode(noise(0, (32, 16)), exif=exif)
    assert np.array_equal(decode_image(content, max_pixels=10**6), np.rot90(by_pillow(content), -1))


def test_a_jpeg_that_is_wrong_in_a_part_is_used_in_silence(capfd):
    """As by Pillow, which passes over what libjpeg only warns of."""
    content = encode(noise(0, (64, 64)))
    damaged = content[:-2] + b"\x12\x34\x56" + content[-2:]
    assert np.array_equal(decode_image(damaged, max_pixels=10**6), by_pillow(damaged))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("min_side", "side"), [(None, 512), (257, 512), (256, 256), (100, 128), (1, 64)])
def test_a_large_jpeg_may_come_smaller(min_side, side):
    content = encode(Image.new("RGB", (512, 512), "red"))
    assert decode_image(content, max_pixels=10**6, min_side=min_side).shape == (side, side, 3)


def test_threads_leave_pillow_as_it_was(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    content, switching = encode(noise(0, (16, 16)), "PNG"), sys.getswitchinterval()
    with warnings.catch_warnings():
        filters = list(warnings.filters)
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(8) as threads:
                shapes = list(threads.map(lambda _: decode_image(content, max_pixels=256).shape, range(400)))
        finally:
            sys.setswitchinterval(switching)
        assert (Image.MAX_IMAGE_PIXELS, warnings.filters) == (100, filters)
    assert shapes == [(16, 16, 3)] * 400
