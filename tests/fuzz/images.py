"""Images of every format that is read, damaged byte by byte and in their structure."""

import struct
import zlib
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from tcl.data.images.decode_image import decode_image
from tcl.data.shards.bad_sample import BadSample
from tests.data_files import encode, noise
from tests.fuzz.case import Wrong
from tests.fuzz.mutate import damage

MAX_PIXELS = 1_000_000


def prepare(folder: Path) -> list[bytes]:
    """Small images of each format and mode."""
    image = noise(3, (48, 40))
    modes = [(image.convert("L"), "JPEG"), (image.convert("CMYK"), "JPEG"), (image.convert("P"), "PNG")]
    modes += [(image.convert("RGBA"), "PNG"), (image.convert("1"), "TIFF"), (image.convert("P"), "GIF")]
    found = [encode(image, name) for name in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")]
    found += [encode(some, name) for some, name in modes]
    found += [encode(image, "JPEG", progressive=True), encode(image, "TIFF", compression="tiff_lzw")]
    found += [encode(image, "GIF", save_all=True, append_images=[noise(4, (48, 40))])]
    found += [encode(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 999), "PNG")]
    return found


def mutate(good: list[bytes], rng: Random, folder: Path) -> None:
    """An image file in `folder`."""
    content = rng.choice(good)
    if content[:4] == b"\x89PNG" and rng.random() < 0.4:
        content = _png_with_other_header(content, rng)
    (folder / "image").write_bytes(damage(content, rng) if rng.random() < 0.9 else content)


def read(good: list[bytes], folder: Path) -> None:
    content = (folder / "image").read_bytes()
    for min_side in (None, 16):
        try:
            pixels = decode_image(content, max_pixels=MAX_PIXELS, min_side=min_side)
        except BadSample:
            continue
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise Wrong(f"{pixels.dtype} {pixels.shape}")
        if not 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS:
            raise Wrong(f"{pixels.shape} has more than {MAX_PIXELS} pixels, or none")


def _png_with_other_header(content: bytes, rng: Random) -> bytes:
    """Any size, depth, colour type and interlacing, under a checksum that holds."""
    sides = [rng.choice((0, 1, 48, 999, 1000, 65_535, 2**31 - 1)) for _ in range(2)]
    header = b"IHDR" + struct.pack(">IIBBBBB", *sides, rng.choice((1, 8, 16)), rng.choice((0, 2, 3, 6)), 0, 0, 1)
    return content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
