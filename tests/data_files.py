"""Small shards, images and a tokenizer for the tests of tcl.data."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import BertTokenizerFast

from tcl.config.data import AugmentConfig, DataConfig, SourceConfig
from tcl.data.feed.loader import TrainLoader, train_loader
from tcl.data.feed.pair_reader import PairReader
from tcl.data.images.pixel_views import PixelViews

WORDS = "a photo of thing number red green blue dog cat on mat"
TOKENIZER = BertTokenizerFast(
    vocab={w: i for i, w in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS.split()])}
)

NO_AUGMENT = AugmentConfig(
    crop_scale=(1.0, 1.0),
    flip_prob=0,
    color_jitter_prob=0,
    grayscale_prob=0,
    blur_prob=0,
    randaugment_ops=0,
)


def encode(image: Image.Image, format: str = "JPEG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def noise(seed: int = 0, size: tuple[int, int] = (16, 16)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (*reversed(size), 3), dtype=np.uint8)
    return Image.fromarray(pixels)


JPEG = encode(noise())


def pair(key: str, caption: str = "a photo of a dog", image: bytes = JPEG) -> list[tuple[str, bytes]]:
    """The tar entries of one good sample."""
    return [(f"{key}.jpg", image), (f"{key}.txt", caption.encode())]


def pairs(prefix: str, count: int) -> list[tuple[str, bytes]]:
    return [entry for i in range(count) for entry in pair(f"{prefix}{i:04d}")]


def write_tar(path: Path, entries: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def write_shards(folder: Path, counts: list[int]) -> str:
    """Shards of good samples that also have sizes.json; returns their glob. Keys are 's<shard>_<sample>'."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, count in enumerate(counts):
        write_tar(folder / f"{i:06d}.tar", pairs(f"s{i}_", count))
    (folder / "sizes.json").write_text(json.dumps({f"{i:06d}.tar": count for i, count in enumerate(counts)}))
    return str(folder / "*.tar")


def config(*shards: str | SourceConfig, **options) -> DataConfig:
    train = [SourceConfig(source) if isinstance(source, str) else source for source in shards]
    return DataConfig(**{"train": train, "workers": 0, "shuffle_buffer": 8, "max_bad_fraction": 1.0, **options})


def loader(data: DataConfig, named_ids: bool = False, **options) -> TrainLoader:
    reader = PairReader(data, PixelViews(data, 16), TOKENIZER, mlm_probability=0.5, named_ids=named_ids)
    defaults = {"reader": reader, "batch_size": 4, "seed": 0, "rank": 0, "world_size": 1}
    return train_loader(data, **{**defaults, **options})
