"""Whether an image is all there, where its decoder would not say: libjpeg only warns, and others make up pixels."""

import zlib

import numpy as np
import simplejpeg

from tcl.data.images.image_work import SCAN, jpeg_segments, png_chunks
from tcl.data.shards.bad_sample import BadSample

CORRUPT_IMAGE = "corrupt image"
TRUNCATED_IMAGE = "truncated image"

ZERO_TAIL = 32
"""Compressed data do not end with as many zero bytes, but for lossy WebP, whose even areas are zeros: a byte for
PIXELS_PER_ZERO at most."""
PIXELS_PER_ZERO = 4096

_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
_PNG_NEEDED = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_CORRUPT = ("bad Huffman code", "bad arithmetic code", "instead of RST")


def jpeg_pixels(content: bytes, colorspace: str, width: int, height: int) -> np.ndarray | None:
    """The pixels that Pillow gives, in three quarters of its time; None where Pillow is to say what is wrong.

    width, height: at least, of the image or of 1/2, 1/4 or 1/8 of it. BadSample: libjpeg's warnings say that data are
    missing or were made up; what it says of bytes between segments or of odd headers does not count.
    """
    try:
        return simplejpeg.decode_jpeg(content, colorspace, min_height=height, min_width=width)
    except ValueError as error:  # also where libjpeg only warns
        warning = str(error)
    if "premature end" in warning.lower():
        raise BadSample(TRUNCATED_IMAGE)
    if any(phrase in warning for phrase in _CORRUPT):
        raise BadSample(CORRUPT_IMAGE)
    return None


def check_progression(content: bytes) -> None:
    """Of a JPEG with several scans. BadSample: it announces components, or bits of coefficients, whose scans are not
    there. (Coefficients that no scan has are 0; that is allowed.)"""
    missing: dict[tuple[int, int], int] = {}
    for marker, at in jpeg_segments(content):
        if marker in _FRAMES:
            missing = {(component, 0): 16 for component in content[at + 8 : at + 8 + 3 * content[at + 7] : 3]}
        if marker != SCAN:
            continue
        count = content[at + 2]
        first, last, bits = content[at + 3 + 2 * count : at + 6 + 2 * count]
        for component in content[at + 3 : at + 3 + 2 * count : 2]:
            missing.update(dict.fromkeys(((component, place) for place in range(first, last + 1)), bits & 15))
    if any(missing.values()):
        raise BadSample(TRUNCATED_IMAGE)


def check_whole(content: bytes, kind: str | None, pixels: int) -> None:
    """kind: of tcl.data.images.image_format; JPEGs are for `jpeg_pixels`. BadSample: data are missing or damaged.

    What has neither checksums nor structure at its end, BMP and uncompressed TIFF, cannot be told: zeros there are
    black pixels.
    """
    if kind == "PNG":
        _check_png(content)
    elif kind == "WEBP":
        _check_webp(content, pixels)
    elif kind == "AVIF" and _zeros_at_end(content) > ZERO_TAIL:
        raise BadSample(CORRUPT_IMAGE)


def _check_png(content: bytes) -> None:
    kind = None
    for kind, start, length in png_chunks(content):
        end = start + length
        if end + 4 > len(content):
            raise BadSample(TRUNCATED_IMAGE)
        if not kind.isalpha():
            raise BadSample(CORRUPT_IMAGE)
        stored = int.from_bytes(content[end : end + 4], "big")
        if kind in _PNG_NEEDED and zlib.crc32(memoryview(content)[start - 4 : end]) != stored:
            raise BadSample(CORRUPT_IMAGE)
    if kind != b"IEND":
        raise BadSample(TRUNCATED_IMAGE)


def _check_webp(content: bytes, pixels: int) -> None:
    at = 12
    while at + 8 <= len(content):
        kind, length = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        lossy = pixels // PIXELS_PER_ZERO
        data = content[at + 8 : at + 8 + length]
        if kind in (b"VP8 ", b"VP8L", b"ANMF"):
            if _zeros_at_end(data) > ZERO_TAIL + (0 if kind == b"VP8L" else lossy):
                raise BadSample(CORRUPT_IMAGE)
            return  # the first image is the one that is used
        if kind == bytes(4):
            raise BadSample(CORRUPT_IMAGE)
        at += 8 + length + length % 2


def _zeros_at_end(content: bytes) -> int:
    return len(content) - len(content.rstrip(b"\0"))
