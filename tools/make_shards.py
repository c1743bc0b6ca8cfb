"""Turn image-text data into webdataset shards.

    python tools/make_shards.py --from jsonl --annotations train.jsonl --images images/ --out shards/train

--from says what the annotations are:
    jsonl  a line {"image": path, "captions": [...]} or {"image": path, "caption": "..."} per sample
    json   a list [{"image": path, "caption": "..." or [...]}], as ALBEF and TCL use them; rows that name the same image
           are not merged, each is a sample
    coco   a COCO captions file; one sample per image with all its captions
Paths are relative to --images and may not leave it; absolute ones are taken as they are.

Row i becomes KEY.<image type> and KEY.json = {"captions", "image"}, plus "image_id" for COCO, with KEY = i in nine
digits, whatever the number of workers. Images that decode are stored byte for byte, unless --max_side shrinks them.
sizes.json counts the samples of each shard; report.json lists the rows that were skipped and why.
"""

import argparse
import io
import json
import os
import re
import shutil
import signal
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path, PurePath

from PIL import Image
from tqdm import tqdm

from tcl.data.decode import EMPTY_CAPTION, NOT_TEXT, TOO_LARGE, BadSample, decode_image
from tcl.data.shard_writer import ShardWriter
from tcl.errors import InputError

STRUCTURES = ("jsonl", "json", "coco")

BAD_JSON = "line is not JSON"
NO_IMAGE_KEY = 'no "image"'
UNKNOWN_IMAGE = "annotation of no image in the file"
OUTSIDE = "path leaves the image folder"
MISSING = "missing image file"
UNREADABLE = "image file cannot be read"
TOO_MANY_PIXELS = "more than max_pixels"
"""Causes of a skipped row; the others are those of tcl.data.decode."""

EXTENSIONS = {b"\xff": "jpg", b"\x89": "png", b"R": "webp", b"G": "gif", b"B": "bmp", b"I": "tiff", b"M": "tiff"}
"""By the first byte, which tells apart the formats that decode_image accepts."""

ROWS_PER_TASK = 8
"""Enough to hide the cost of a task, few enough that the images under way take little memory."""


@dataclass(frozen=True)
class Row:
    """One image with its captions."""

    where: str
    """Its place in the annotations, for the report: 'line 3'."""
    image: str | None
    """Path, absolute or relative to the image folder."""
    captions: tuple[str, ...] = ()
    extra: dict = field(default_factory=dict)
    """More that the sample's JSON shall hold."""
    problem: str | None = None
    """Why the row cannot be used, where that is known already."""


@dataclass(frozen=True)
class Packed:
    """The contents of a sample."""

    extension: str
    image: bytes
    captions: list[str]


@dataclass(frozen=True)
class Skipped:
    """A row that became no sample."""

    where: str
    image: str | None
    cause: str


@dataclass(frozen=True)
class Report:
    """What became of the rows."""

    rows: int
    samples: int
    shards: int
    blank_captions: int
    """Dropped from rows that had others."""
    causes: dict[str, int]
    """Skipped rows by cause, most frequent first."""
    skipped: list[Skipped]


def read_rows(structure: str, path: Path) -> Iterator[Row]:
    """Rows of an annotation file of one of STRUCTURES. InputError: unreadable, empty, or of another structure."""
    if structure not in STRUCTURES:
        raise InputError(f"from: {structure!r} is not possible; accepted: {', '.join(STRUCTURES)}")
    try:
        if structure == "jsonl":
            return _jsonl_rows(path)
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"annotations: {path} cannot be read ({error.strerror}); give a {structure} file") from error
    if not content.strip():
        raise InputError(f"annotations: {path} is empty; give a {structure} file with rows")
    try:
        content = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"annotations: {path} is not JSON ({error}); for a row per line use --from jsonl") from error
    return _json_rows(path, content) if structure == "json" else _coco_rows(path, content)


def _jsonl_rows(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        first = next((line.strip() for line in file if line.strip()), None)
    if first is None:
        raise InputError(f"annotations: {path} is empty; give a jsonl file with rows")
    parsed = _parse(first)
    if first.startswith(b"["):
        raise InputError(f"annotations: {path} starts with a list, not with a row; use --from json")
    if first == b"{" or (isinstance(parsed, dict) and {"images", "annotations"} <= parsed.keys()):
        raise InputError(f"annotations: {path} is one JSON object, not a row per line; is it --from coco?")

    def rows() -> Iterator[Row]:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    where, parsed = f"line {number}", _parse(line)
                    yield Row(where, None, problem=BAD_JSON) if parsed is None else _row(where, parsed)

    return rows()


def _parse(line: bytes) -> object | None:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _json_rows(path: Path, content: object) -> Iterator[Row]:
    if not isinstance(content, list):
        raise InputError(f"annotations: {path} holds no list of rows, as --from json needs; is it jsonl, or coco?")
    return (_row(f"item {i}", item) for i, item in enumerate(content))


def _row(where: str, item: object, extra: dict | None = None) -> Row:
    if not isinstance(item, dict) or not isinstance(item.get("image"), str) or not item["image"]:
        return Row(where, None, problem=NO_IMAGE_KEY)
    captions = item["captions"] if item.get("captions") is not None else item.get("caption")
    captions = [] if captions is None else [captions] if isinstance(captions, str) else captions
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        return Row(where, item["image"], problem=NOT_TEXT)
    return Row(where, item["image"], tuple(captions), extra or {})


def _coco_rows(path: Path, content: object) -> Iterator[Row]:
    lists = [content.get(name) if isinstance(content, dict) else None for name in ("images", "annotations")]
    if not all(isinstance(part, list) for part in lists):
        raise InputError(f'annotations: {path} has no lists "images" and "annotations", which --from coco needs')
    images, annotations = ([item if isinstance(item, dict) else {} for item in part] for part in lists)
    if annotations and not any("caption" in annotation for annotation in annotations):
        raise InputError(f'annotations: {path} has no "caption" in its annotations; give a COCO captions file')

    def rows() -> Iterator[Row]:
        # Ids are compared as JSON: whatever a file holds there can be looked up, and 1 is not "1".
        captions: dict[str, list] = {json.dumps(image.get("id")): [] for image in images if "id" in image}
        orphans = []
        for i, annotation in enumerate(annotations):
            of_image = captions.get(json.dumps(annotation.get("image_id")))
            if of_image is None:
                orphans.append(Row(f"annotation {i}", None, problem=UNKNOWN_IMAGE))
            else:
                of_image.append(annotation.get("caption"))
        for i, image in enumerate(images):
            item = {"image": image.get("file_name"), "captions": captions.get(json.dumps(image.get("id")), [])}
            yield _row(f"image {i}", item, {"image_id": image.get("id")})
        yield from orphans

    return rows()


def pack_row(row: Row, images: Path, max_side: int | None, quality: int, max_pixels: int) -> Packed | Skipped:
    """The contents of the row's sample, its image under the folder `images`; the options are those of make_shards."""
    try:
        if row.problem is not None:
            raise BadSample(row.problem)
        captions = [caption for caption in row.captions if caption.strip()]
        if not captions:
            raise BadSample(EMPTY_CAPTION)
        content = _read_image(images, row.image)
        return Packed(*_pack_image(content, max_side, quality, max_pixels), captions)
    except BadSample as cause:
        return Skipped(row.where, row.image, TOO_MANY_PIXELS if str(cause) == TOO_LARGE else str(cause))


def _read_image(folder: Path, name: str) -> bytes:
    if not os.path.isabs(name) and PurePath(os.path.normpath(name)).parts[:1] == ("..",):
        raise BadSample(OUTSIDE)
    path = folder / name
    try:
        if not path.is_file():
            raise BadSample(MISSING)
        return path.read_bytes()
    except OSError as error:
        raise BadSample(UNREADABLE) from error


def _pack_image(content: bytes, max_side: int | None, quality: int, max_pixels: int) -> tuple[str, bytes]:
    # A JPEG may be decoded at a fraction of its size: any to see that it is whole, twice max_side to be shrunk.
    image = decode_image(content, max_pixels=max_pixels, min_side=1 if max_side is None else 2 * max_side)
    if max_side is None or max(image.size) <= max_side:
        return EXTENSIONS[content[:1]], content
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=quality)
    return "jpg", jpeg.getvalue()


def make_shards(
    rows: Iterable[Row],
    out: Path | str,
    *,
    images: Path | str,
    shard_size: int | None = None,
    shard_bytes: int | None = None,
    max_side: int | None = None,
    quality: int = 90,
    max_pixels: int = 100_000_000,
    workers: int = 2,
    overwrite: bool = False,
) -> Report:
    """Write the shards to the folder `out`, complete or not at all.

    images: folder that relative image paths start from. shard_size: samples per shard (default 1000), or shard_bytes:
    largest size of a shard in bytes, not both. max_side: larger images are shrunk to this many pixels on their longer
    side and stored upright, as RGB JPEG of `quality` (1 to 95); default: none. max_pixels: larger images are skipped.
    workers: processes. overwrite: replace an `out` that is there.
    InputError: an impossible value, an `out` that is in use or cannot be written, no usable row.
    """
    _check_options(shard_size, shard_bytes, max_side, quality, max_pixels, workers)
    out, images = Path(out).resolve(), Path(images)
    if not images.is_dir():
        raise InputError(f"images: {images} is no folder; give the one that image paths start from")
    _check_out(out, images, overwrite)
    pack = partial(pack_row, images=images, max_side=max_side, quality=quality, max_pixels=max_pixels)
    unfinished = out.with_name(out.name + ".partial")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        writer = ShardWriter(unfinished, shard_size or 1000, shard_bytes)
        report = _write_shards(writer, rows, pack, workers)
        if not report.samples:
            causes = ", ".join(f"{count} x {cause}" for cause, count in report.causes.items()) or "there are none"
            raise InputError(f"rows: no usable one among {report.rows} ({causes}); give images with captions")
        (unfinished / "report.json").write_text(json.dumps(asdict(report), indent=1) + "\n")
        _put_in_place(unfinished, out)
    except OSError as error:
        raise InputError(f"out: {out} cannot be written ({error}); name a folder with space that is yours") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return report


def _check_options(shard_size, shard_bytes, max_side, quality, max_pixels, workers) -> None:
    if shard_size is not None and shard_bytes is not None:
        raise InputError(f"shard_size: {shard_size} and shard_bytes: {shard_bytes} are both given; give one of them")
    counts = {"shard_size": shard_size, "shard_bytes": shard_bytes, "max_side": max_side}
    for name, value in (counts | {"max_pixels": max_pixels, "workers": workers}).items():
        if value is not None and value < 1:
            raise InputError(f"{name}: {value} is not possible; accepted: an integer >= 1")
    if not 1 <= quality <= 95:
        raise InputError(f"quality: {quality} is not possible; accepted: 1 to 95")


def _check_out(out: Path, images: Path, overwrite: bool) -> None:
    if out.is_file():
        raise InputError(f"out: {out} is a file; name a folder")
    if not overwrite and out.is_dir() and any(out.iterdir()):
        raise InputError(f"out: {out} is there already and not empty; name another folder or give --overwrite")
    for kept in (images.resolve(), Path.cwd()):
        if kept.is_relative_to(out):
            raise InputError(f"out: {out} contains {kept}, which overwriting would delete; name another folder")


def _write_shards(writer: ShardWriter, rows: Iterable[Row], pack: Callable, workers: int) -> Report:
    skipped, count, blank = [], 0, 0
    with (
        writer,
        ProcessPoolExecutor(workers, initializer=_leave_signals_to_parent) as pool,
        tqdm(unit=" rows") as bar,
    ):
        try:
            for index, (row, packed) in enumerate(_in_order(pool, pack, rows, tasks=3 * workers)):
                count += 1
                bar.update()
                if isinstance(packed, Skipped):
                    skipped.append(packed)
                    bar.set_postfix(skipped=len(skipped), refresh=False)
                    continue
                blank += len(row.captions) - len(packed.captions)
                text = json.dumps({"captions": packed.captions, "image": row.image, **row.extra})
                writer.write(f"{index:09d}", {packed.extension: packed.image, "json": text.encode()})
        except BrokenProcessPool as error:
            raise InputError(f"workers: one of {workers} was killed, perhaps for its memory; try fewer") from error
        finally:
            pool.shutdown(cancel_futures=True)
    causes = Counter(row.cause for row in skipped)
    return Report(count, count - len(skipped), len(writer.sizes), blank, dict(causes.most_common()), skipped)


def _leave_signals_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _in_order(
    pool: Executor, pack: Callable, rows: Iterable[Row], tasks: int
) -> Iterator[tuple[Row, Packed | Skipped]]:
    """Rows as given, packed by the pool; at most `tasks` tasks are under way, so that memory stays flat."""
    rows, under_way = iter(rows), deque()
    while True:
        while len(under_way) < tasks and (some := list(islice(rows, ROWS_PER_TASK))):
            under_way.append((some, pool.submit(_pack_rows, pack, some)))
        if not under_way:
            return
        some, future = under_way.popleft()
        yield from zip(some, future.result(), strict=True)


def _pack_rows(pack: Callable, rows: list[Row]) -> list[Packed | Skipped]:
    return [pack(row) for row in rows]


def _put_in_place(unfinished: Path, out: Path) -> None:
    """Replace `out` by renaming alone: at no time is there a folder of that name that is half old or half new."""
    replaced = out.with_name(out.name + ".replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if out.exists():
        out.rename(replaced)
    unfinished.rename(out)
    shutil.rmtree(replaced, ignore_errors=True)


def _number(name: str, text: str) -> int:
    """'100e6' -> 100000000, '300MB' -> 300000000, '4KiB' -> 4096."""
    match = re.fullmatch(r"([\d.]+(?:e\d+)?)\s*(?:([kmgt]?)(i?)b)?", text.strip().lower())
    try:
        value, prefix, binary = match.groups()
        return round(float(value) * (1024 if binary else 1000) ** " kmgt".index(prefix or " "))
    except (AttributeError, ValueError, OverflowError):
        raise InputError(f"{name}: {text!r} is no number; accepted: such as 100e6 or 300MB") from None


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="structure", choices=STRUCTURES, required=True)
    parser.add_argument("--annotations", type=Path, required=True, metavar="FILE")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--shard_size", type=int, metavar="N", help="samples per shard (default 1000)")
    parser.add_argument("--shard_bytes", metavar="SIZE", help="instead: largest size of a shard, such as 300MB")
    parser.add_argument("--max_side", type=int, metavar="PIXELS", help="shrink images whose longer side exceeds this")
    parser.add_argument("--quality", type=int, default=90, help="JPEG quality of shrunk images (default 90)")
    parser.add_argument("--max_pixels", default="100e6", help="larger images are skipped (default 100e6)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--overwrite", action="store_true", help="replace --out if it is there")
    options = vars(parser.parse_args(arguments))
    try:
        options["max_pixels"] = _number("max_pixels", options["max_pixels"])
        if options["shard_bytes"] is not None:
            options["shard_bytes"] = _number("shard_bytes", options["shard_bytes"])
        annotations = options.pop("annotations")
        if annotations.resolve().is_relative_to(options["out"].resolve()):
            raise InputError(f"out: {options['out']} would replace {annotations}; name another folder")
        report = make_shards(read_rows(options.pop("structure"), annotations), **options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{report.samples:,} samples in {report.shards:,} shards; skipped {len(report.skipped):,} rows")
    for cause, count in report.causes.items():
        print(f"{count:10,}  {cause}")
    if report.blank_captions:
        print(f"{report.blank_captions:10,}  blank captions dropped from rows that have others")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # tidy up as after Ctrl-C
    main()
