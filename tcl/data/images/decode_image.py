"""The bytes of a sample -> an RGB image; whatever is wrong with them becomes a BadSample."""

import contextlib
import io
import os
import threading
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tcl.data.images.image_format import DECODED, HEIC_MISSING, IMAGE_EXTENSIONS, READ, TOKENS_EXTENSION, format_of
from tcl.data.images.image_work import check_scans, check_work, has_one_scan
from tcl.data.images.whole_image import CORRUPT_IMAGE, TRUNCATED_IMAGE, check_progression, check_whole, jpeg_pixels
from tcl.data.shards.bad_sample import BadSample

NO_IMAGE = "no image"
ONLY_TOKENS = "stored tokens in place of an image"
EMPTY_IMAGE = "empty image file"
TOO_LARGE = "too many pixels"

MAX_EXIF_BYTES = 2**18
"""Larger EXIF data are not read: their entries may each point to all of them."""

_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def image_bytes(fields: dict[str, bytes]) -> bytes:
    """The encoded image of a sample, given as its bytes by extension. BadSample: NO_IMAGE, ONLY_TOKENS."""
    for extension in IMAGE_EXTENSIONS:
        if extension in fields:
            return fields[extension]
    raise BadSample(ONLY_TOKENS if TOKENS_EXTENSION in fields else NO_IMAGE)


def decode_image(content: bytes, *, max_pixels: int, min_side: int | None = None) -> np.ndarray:
    """[H, W, 3] uint8 RGB, upright: transparency on white, 16 bits scaled down, of an animation the first frame.

    The bytes say what format it is, whatever the file was called. max_pixels: larger images are refused before they are
    decoded, and so is what would take too long (image_work). min_side: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its
    size as long as both sides keep at least this many pixels, which is much faster. BadSample: unusable, or not all of
    it is there (whole_image).
    """
    if not content:
        raise BadSample(EMPTY_IMAGE)
    kind = format_of(content)
    if kind is not None and kind not in DECODED:
        raise BadSample(kind)
    try:
        check_work(content, kind, max_pixels)
        with _quiet_pillow():
            image = Image.open(io.BytesIO(content), formats=_readers(kind))
            size = image.size
            if image.width * image.height > max_pixels:
                raise BadSample(TOO_LARGE)
            if min_side is not None:
                image.draft(None, (min_side, min_side))
        pixels = _jpeg(content, image, size, max_pixels) if kind == "JPEG" else None
        check_whole(content, kind, size[0] * size[1])
        with _quiet_pillow():
            if pixels is None:
                image.load()
                return upright_rgb(image)
            return _upright(pixels, image)
    except BadSample:
        raise
    except Exception as error:  # hostile bytes make Pillow's readers raise almost anything
        raise BadSample(TRUNCATED_IMAGE if "truncated" in str(error).lower() else CORRUPT_IMAGE) from error


def _readers(kind: str | None) -> tuple[str, ...]:
    """Of Pillow, for bytes of that kind. BadSample: HEIC_MISSING."""
    if kind != "HEIC":
        return READ
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise BadSample(HEIC_MISSING) from error
    register_heif_opener()
    return ("HEIF",)


def _jpeg(content: bytes, image: Image.Image, size: tuple[int, int], max_pixels: int) -> np.ndarray | None:
    """The pixels of an ordinary JPEG at the size of `image`; None of another, which is looked through nevertheless.

    size: before any reduction. BadSample: too many scans, or data are missing.
    """
    if not has_one_scan(content):
        check_scans(content, size[0] * size[1], max_pixels)
        check_progression(content)
    if image.format != "JPEG" or image.mode != "RGB":
        jpeg_pixels(content, "CMYK" if image.mode == "CMYK" else "GRAY", 1, 1)
        return None
    pixels = jpeg_pixels(content, "RGB", *image.size)
    return pixels if pixels is not None and pixels.shape[1::-1] == image.size else None


_one_thread = threading.Lock()
if hasattr(os, "register_at_fork"):  # a process is forked with the lock free and Pillow's limit in its place
    os.register_at_fork(
        before=_one_thread.acquire, after_in_parent=_one_thread.release, after_in_child=_one_thread.release
    )


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Without Pillow's own limit on pixels, which max_pixels replaces, and without warnings about odd files.

    Both are the whole process', so only one thread is here at a time: each puts back what it found.
    """
    with _one_thread:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def upright_rgb(image: Image.Image) -> np.ndarray:
    """A loaded image of any mode -> [H, W, 3] uint8 as `decode_image` gives it, turned as its EXIF data say."""
    return _upright(np.array(_to_rgb(image)), image)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        image = _to_8_bits(np.nan_to_num(np.asarray(image), posinf=0, neginf=0), usual_ranges=(1, 255, 65535))
    elif image.mode.startswith("I"):  # I;16 and its byte orders, and I, 32 bits that mostly hold 16
        image = _to_8_bits(np.asarray(image), usual_ranges=(65535,))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_8_bits(pixels: np.ndarray, usual_ranges: tuple[int, ...]) -> Image.Image:
    """Scaled, not clipped: from the smallest of usual_ranges that holds all pixels, else from their own range."""
    largest = float(pixels.max())
    full = next((scale for scale in usual_ranges if largest <= scale), largest)
    return Image.fromarray(np.rint(pixels.clip(0) * (255 / full)).astype(np.uint8))


def _upright(pixels: np.ndarray, source: Image.Image) -> np.ndarray:
    orientation = None
    with contextlib.suppress(Exception):  # broken EXIF data is no reason to lose the image
        if len(source.info.get("exif", b"")) <= MAX_EXIF_BYTES:
            orientation = source.getexif().get(_ORIENTATION_TAG)
    if orientation not in _UPRIGHT:
        return pixels
    return np.array(Image.fromarray(pixels).transpose(_UPRIGHT[orientation]))
