"""Shards of photographs for the benchmarks of the loader: those of a folder, or generated ones, repeated."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter


def photographs(folder: Path | None, count: int, size: tuple[int, int] = (640, 480)) -> list[bytes]:
    """JPEGs: the first `count` of `folder`, or without one `count` generated ones of width x height `size`."""
    if folder is not None:
        return [path.read_bytes() for path in sorted(folder.glob("*.jpg"))[:count]]
    return [_generated(seed, size) for seed in range(count)]


def _generated(seed: int, size: tuple[int, int]) -> bytes:
    """Soft shapes of all colours with grain, of as many bytes as COCO's photographs, 0.5 a pixel."""
    draw = np.random.default_rng(seed)
    shapes = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = Image.fromarray(draw.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    stream = io.BytesIO()
    Image.blend(shapes, grain.filter(ImageFilter.GaussianBlur(0.7)), 0.6).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def write_shards(folder: Path, images: Sequence[bytes], samples: int, shards: int) -> list[str]:
    """`samples` pairs in `shards` tars with sizes.json, the images repeated in turn; returns their paths."""
    sizes = [samples // shards + (i < samples % shards) for i in range(shards)]
    first = 0
    for shard, size in enumerate(sizes):
        with tarfile.open(folder / f"{shard:06d}.tar", "w") as tar:
            for sample in range(first, first + size):
                for extension, content in (("jpg", images[sample % len(images)]), ("txt", b"a photo of a thing")):
                    entry = tarfile.TarInfo(f"{sample:08d}.{extension}")
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
        first += size
    (folder / "sizes.json").write_text(json.dumps({f"{shard:06d}.tar": size for shard, size in enumerate(sizes)}))
    return [str(folder / f"{shard:06d}.tar") for shard in range(shards)]
