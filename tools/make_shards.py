"""Turn image-text data into webdataset shards.

    python tools/make_shards.py --from jsonl --annotations train.jsonl --images images/ --out shards/train

--from says what the annotations are:
    jsonl     a line {"image": path, "captions": [...]} or {"image": path, "caption": "..."} per sample
    json      a list [{"image": path, "caption": "..." or [...]}], as ALBEF and TCL use them; rows that name the same
              image are not merged, each is a sample
    coco      a COCO captions file; one sample per image with all its captions
    karpathy  a Karpathy split file, such as dataset_coco.json; as coco, for the images of --split train,restval
and for questions about images, a sample per question:
    vqa       a line {"question_id", "image": path, "question", "answers": [...]} per question, perhaps with
              "question_type" and "answer_type"
    vqa_v2    the questions of VQA v2, with its annotations as --answers; without them, as for its test, "answers" is []
    vg_qa     question_answers.json of Visual Genome
Paths are relative to --images and may not leave it; absolute ones are taken as they are. vqa_v2 and vg_qa name images
by number, which --image_name turns into a path.

Row i becomes KEY.<image type> and KEY.json, with KEY = i in nine digits, whatever the number of workers. The JSON is
{"captions", "image"}, plus "image_id" for coco and karpathy, or {"question", "answers", "question_id", "image"}, plus
the types. Images that decode are stored byte for byte, unless --max_side shrinks them. sizes.json counts the samples of
each shard; report.json lists the rows that were skipped and why.
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
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path, PurePath

from PIL import Image
from tqdm import tqdm

from tcl.annotations.read_rows import IMAGE_NAME_HELP, STRUCTURES, read_rows
from tcl.annotations.row import Row
from tcl.data.decode import TOO_LARGE, BadSample, decode_image
from tcl.data.shard_writer import ShardWriter
from tcl.errors import InputError

OUTSIDE = "path leaves the image folder"
MISSING = "missing image file"
UNREADABLE = "image file cannot be read"
TOO_MANY_PIXELS = "more than max_pixels"
"""Causes of a skipped row; the others are those of tcl.data.decode and tcl.annotations."""

EXTENSIONS = {b"\xff": "jpg", b"\x89": "png", b"R": "webp", b"G": "gif", b"B": "bmp", b"I": "tiff", b"M": "tiff"}
"""By the first byte, which tells apart the formats that decode_image accepts."""

ROWS_PER_TASK = 8
"""Enough to hide the cost of a task, few enough that the images under way take little memory."""


@dataclass(frozen=True)
class Packed:
    """The image of a sample, ready to be stored."""

    extension: str
    image: bytes


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


def pack_row(row: Row, images: Path, max_side: int | None, quality: int, max_pixels: int) -> Packed | Skipped:
    """The contents of the row's sample, its image under the folder `images`; the options are those of make_shards."""
    try:
        if row.problem is not None:
            raise BadSample(row.problem)
        content = _read_image(images, row.image)
        return Packed(*_pack_image(content, max_side, quality, max_pixels))
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
    min_side = 1 if max_side is None else 2 * max_side
    image = Image.fromarray(decode_image(content, max_pixels=max_pixels, min_side=min_side))
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
            raise InputError(f"rows: no usable one among {report.rows} ({causes}); give images with texts")
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
                blank += row.blank_captions
                text = json.dumps(row.sample)
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
    parser.add_argument("--split", metavar="NAMES", help="karpathy: splits to take, such as train,restval")
    parser.add_argument("--answers", type=Path, metavar="FILE", help="vqa_v2: annotations of the questions")
    parser.add_argument("--image_name", metavar="TEMPLATE", help=IMAGE_NAME_HELP)
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
        reading = {name: options.pop(name) for name in ("structure", "annotations", "split", "answers", "image_name")}
        for path in (reading["annotations"], reading["answers"]):
            if path is not None and path.resolve().is_relative_to(options["out"].resolve()):
                raise InputError(f"out: {options['out']} would replace {path}; name another folder")
        report = make_shards(read_rows(**reading), **options)
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
