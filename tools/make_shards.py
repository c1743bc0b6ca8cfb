"""Turn image-text data into webdataset shards.

    python tools/make_shards.py --format jsonl --annotations train.jsonl --images images/ --out shards/train

Formats: `jsonl`, lines of {"image", "captions" or "caption"}; `json`, lists [{"image", "caption"}] as ALBEF and TCL use
them (rows that name the same image stay separate samples); `coco`, a COCO captions file (one sample per image with all
its captions). Image paths are relative to --images; absolute ones are taken as they are, relative ones may not leave it.

The output does not depend on the number of workers: row i becomes KEY.<image type> and KEY.json with KEY = i in nine
digits. sizes.json counts the samples of each shard, report.json lists what was skipped and why.
"""

import io
import json
import shutil
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path, PurePath
from typing import Literal

import jsonargparse
from PIL import Image, ImageOps
from tqdm import tqdm

from tcl.data.shard_writer import ShardWriter
from tcl.errors import InputError

EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff"}
ROWS_PER_TASK = 32


@dataclass(frozen=True)
class Row:
    """One image with its captions, as the annotation file has it; `where` says where it stands there."""

    where: str
    image: str | None
    captions: list[str] | None
    extra: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """A row that became no sample."""

    where: str
    image: str | None
    cause: str


@dataclass
class Report:
    """What became of the rows."""

    samples: int = 0
    shards: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """Skipped rows by cause."""
    skipped: list[Skipped] = field(default_factory=list)


def read_rows(format: Literal["jsonl", "json", "coco"], path: Path) -> Iterator[Row]:
    """Rows of an annotation file. InputError: it cannot be read, or has another structure."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"annotations: {path} cannot be read ({error}); give a UTF-8 {format} file") from error
    if not text.strip():
        raise InputError(f"annotations: {path} is empty; give a {format} file with rows")
    if format == "jsonl":
        return _jsonl_rows(text)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"annotations: {path} is not JSON ({error}); is it jsonl?") from error
    if format == "json":
        if not isinstance(content, list):
            raise InputError(f"annotations: {path} holds {type(content).__name__}, format json needs a list of rows")
        return (_row(f"item {i}", item) for i, item in enumerate(content))
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        raise InputError(f"annotations: {path} has no 'images' and 'annotations'; format coco needs both")
    return _coco_rows(content)


def _jsonl_rows(text: str) -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                item = json.loads(line)
            except json.JSONDecodeError:
                item = None
            yield _row(f"line {number}", item)


def _row(where: str, item: object) -> Row:
    if not isinstance(item, dict) or not isinstance(item.get("image"), str):
        return Row(where, None, None)
    captions = item.get("captions", item.get("caption", []))
    captions = [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        captions = None
    return Row(where, item["image"], captions)


def _coco_rows(content: dict) -> Iterator[Row]:
    captions: dict[int, list[str]] = {}
    for annotation in content["annotations"]:
        captions.setdefault(annotation.get("image_id"), []).append(annotation.get("caption"))
    for i, image in enumerate(content["images"]):
        row = _row(f"image {i}", {"image": image.get("file_name"), "captions": captions.get(image.get("id"), [])})
        yield Row(row.where, row.image, row.captions, {"image_id": image.get("id")})


def pack_row(
    row: Row, images: Path, max_side: int | None, quality: int, max_pixels: int
) -> tuple[str, bytes, list[str]] | Skipped:
    """(extension, image bytes, captions) of a row, or why it is skipped."""
    try:
        if row.image is None:
            raise ValueError("not a row with an image")
        if row.captions is None:
            raise ValueError("captions are not text")
        captions = [caption.strip() for caption in row.captions if caption.strip()]
        if not captions:
            raise ValueError("no caption")
        if not PurePath(row.image).is_absolute() and ".." in PurePath(row.image).parts:
            raise ValueError("path leaves the image folder")
        path = images / row.image
        if not path.is_file():
            raise ValueError("missing image")
        return (*_pack_image(path.read_bytes(), max_side, quality, max_pixels), captions)
    except ValueError as cause:
        return Skipped(row.where, row.image, str(cause))


def _pack_image(content: bytes, max_side: int | None, quality: int, max_pixels: int) -> tuple[str, bytes]:
    if not content:
        raise ValueError("empty image file")
    Image.MAX_IMAGE_PIXELS = None  # max_pixels decides, before anything is decoded
    try:
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > max_pixels:
                raise ValueError("decompression bomb")
            if image.format not in EXTENSIONS:
                raise ValueError(f"image format {image.format}")
            extension = EXTENSIONS[image.format]
            image.load()
            if max_side is None or max(image.size) <= max_side:
                return extension, content
            smaller = ImageOps.exif_transpose(image).convert("RGB")
    except ValueError:
        raise
    except Exception as error:  # Pillow raises almost anything on broken bytes
        raise ValueError("unreadable image") from error
    smaller.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    smaller.save(jpeg, "JPEG", quality=quality)
    return "jpg", jpeg.getvalue()


def make_shards(
    format: Literal["jsonl", "json", "coco"],
    annotations: Path,
    images: Path,
    out: Path,
    shard_size: int | None = None,
    shard_bytes: int | None = None,
    max_side: int | None = None,
    quality: int = 90,
    max_pixels: int = 100_000_000,
    workers: int = 2,
    overwrite: bool = False,
) -> Report:
    """Write the shards to `out`, complete or not at all.

    shard_size: samples per shard (default 1000), or shard_bytes: bytes per shard, not both. max_side: larger images are
    re-encoded to this many pixels on their longer side (default: stored as they are), as JPEG of `quality` (1 to 95).
    max_pixels: larger images are skipped. workers: processes. overwrite: replace an `out` that is there.
    InputError: an impossible value, annotations that cannot be read, an `out` that is in use, no usable row.
    """
    _check_options(shard_size, shard_bytes, max_side, quality, workers)
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not overwrite:
        raise InputError(f"out: {out} is there already; name another folder or give --overwrite true")
    rows = read_rows(format, annotations)
    pack = partial(pack_row, images=images, max_side=max_side, quality=quality, max_pixels=max_pixels)
    partial_out = out.with_name(out.name + ".partial")
    shutil.rmtree(partial_out, ignore_errors=True)
    report = Report()
    with (
        ProcessPoolExecutor(workers) as pool,
        ShardWriter(partial_out, shard_size or 1000, shard_bytes) as writer,
        tqdm(unit=" rows") as bar,
    ):
        for index, (row, packed) in enumerate(_in_order(pool, pack, rows, ahead=4 * workers)):
            bar.update()
            if isinstance(packed, Skipped):
                report.skipped.append(packed)
                bar.set_postfix(skipped=len(report.skipped))
                continue
            extension, content, captions = packed
            text = json.dumps({"captions": captions, "image": row.image, **row.extra})
            writer.write(f"{index:09d}", {extension: content, "json": text.encode()})
        report.samples, report.shards = sum(writer.sizes.values()), len(writer.sizes)
    report.counts = dict(Counter(skipped.cause for skipped in report.skipped).most_common())
    if not report.samples:
        shutil.rmtree(partial_out)
        raise InputError(f"annotations: {annotations} has no usable row: {report.counts or 'it is empty'}")
    (partial_out / "report.json").write_text(json.dumps(asdict(report), indent=1) + "\n")
    if out.exists():
        shutil.rmtree(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial_out.rename(out)
    return report


def _check_options(shard_size, shard_bytes, max_side, quality, workers) -> None:
    if shard_size is not None and shard_bytes is not None:
        raise InputError(f"shard_size: {shard_size} and shard_bytes: {shard_bytes} are both given; give one of them")
    values = {"shard_size": shard_size, "shard_bytes": shard_bytes, "max_side": max_side, "workers": workers}
    for name, value in values.items():
        if value is not None and value < 1:
            raise InputError(f"{name}: {value} is not possible; accepted: an integer >= 1")
    if not 1 <= quality <= 95:
        raise InputError(f"quality: {quality} is not possible; accepted: 1 to 95")


def _in_order(pool: Executor, pack: partial, rows: Iterable[Row], ahead: int) -> Iterator[tuple[Row, tuple | Skipped]]:
    """Packed rows in their order, with at most `ahead` tasks under way so that memory stays flat."""
    rows, under_way = iter(rows), deque()
    while True:
        while len(under_way) < ahead and (task := list(islice(rows, ROWS_PER_TASK))):
            under_way.append((task, pool.submit(_pack_rows, pack, task)))
        if not under_way:
            return
        task, future = under_way.popleft()
        yield from zip(task, future.result(), strict=True)


def _pack_rows(pack: partial, rows: list[Row]) -> list[tuple | Skipped]:
    return [pack(row) for row in rows]


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description="Turn image-text data into webdataset shards.")
    parser.add_function_arguments(make_shards)
    arguments = parser.parse_args()
    try:
        made = make_shards(**vars(arguments))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{made.samples:,} samples in {made.shards} shards; skipped {len(made.skipped):,}")
    for cause, count in made.counts.items():
        print(f"  {count:8,} {cause}")
