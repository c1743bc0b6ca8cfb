"""Images of every format: their bytes."""

import random
from pathlib import Path

import numpy as np
from data_files import NO_AUGMENT, TOKENIZER, config, encode, noise

from tcl.data.augment import Augment
from tcl.data.decode import BadSample, decode_image
from tcl.data.image_stream import images_of_folder, stream_images
from tcl.data.pair_reader import PairReader
from tcl.data.questions import QuestionReader
from tests.fuzz.mutate import change_bytes

FORMATS = {
    "baseline.jpg": ("JPEG", {}),
    "progressive.jpg": ("JPEG", {"progressive": True}),
    "exif.jpg": ("JPEG", {"exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"}),
    "a.png": ("PNG", {}),
    "a.webp": ("WEBP", {}),
    "lossless.webp": ("WEBP", {"lossless": True}),
    "a.gif": ("GIF", {}),
    "a.bmp": ("BMP", {}),
    "a.tiff": ("TIFF", {}),
    "lzw.tiff": ("TIFF", {"compression": "tiff_lzw"}),
    "a.avif": ("AVIF", {}),
}


def prepare(folder: Path) -> None:
    """One good image of each format."""
    for name, (format, options) in FORMATS.items():
        (folder / name).write_bytes(encode(noise(1, (48, 40)), format, **options))


def make(good: Path, folder: Path, rng: random.Random) -> str:
    """One of them, changed; the name need not tell its format."""
    name = rng.choice(list(FORMATS))
    content, said = change_bytes((good / name).read_bytes(), rng)
    if rng.random() < 0.1:  # scans without end
        body = (good / "progressive.jpg").read_bytes()
        content, said = body[:-2] + body[body.index(b"\xff\xda") : -2] * 2000 + body[-2:], "2000 times the scans"
    (folder / rng.choice([name, "x.jpg"])).write_bytes(content)
    return f"{name}: {said}"


def check(folder: Path) -> None:
    """Decoded, and read as training and as `tcl encode` do."""
    (path,) = folder.iterdir()
    content = path.read_bytes()
    data = config("x", max_pixels=10**6)
    readers = [
        PairReader(data, Augment(NO_AUGMENT, 16), TOKENIZER, mlm_probability=0.5, with_ids=True),
        QuestionReader(data, Augment(data.augment, 16), TOKENIZER, max_answer_tokens=5),
    ]
    fields = {path.suffix[1:]: content, "json": b'{"question": "a dog", "answers": ["dog"], "caption": "a dog"}'}
    try:
        pixels = decode_image(content, max_pixels=10**6)
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3, (pixels.dtype, pixels.shape)
    except BadSample:
        pixels = None
    for reader in readers:
        try:
            reader.batch([reader.read(fields, "key", random.Random(0))], 0)
        except BadSample:
            continue
    if path.suffix in (".jpg", ".png", ".webp", ".gif", ".bmp", ".tiff"):
        (batch,) = stream_images(images_of_folder(folder), _mean, batch_size=1, max_pixels=10**6, workers=0)
        assert len(batch.ids) + len(batch.skipped) == 1, "lost"


def _mean(pixels):
    import torch

    return torch.tensor(pixels.mean())
