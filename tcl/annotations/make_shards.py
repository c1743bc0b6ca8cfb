"""Rows of annotation files to webdataset shards, by worker processes, complete or not at all.

Row i becomes KEY.<image type> (of two images KEY.left.<type> and KEY.right.<type>; of a clip KEY.<type> of its video
and of its sound) and KEY.json, with KEY = i in nine digits, whatever the number of workers. sizes.json
counts the samples of each shard; report.json lists the rows that were skipped and why.
"""

import json
import shutil
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from tcl.annotations.pack_row import Packed, SkippedRow, pack_row
from tcl.annotations.row import Row
from tcl.config.checks import require
from tcl.data.shards.out_folder import check_out, put_in_place, unfinished
from tcl.data.shards.shard_writer import ShardWriter
from tcl.errors import InputError

ROWS_PER_TASK = 8
"""Enough to hide the cost of a task, few enough that the images under way take little memory."""


@dataclass(frozen=True)
class ShardsReport:
    """What became of the rows."""

    rows: int
    samples: int
    shards: int
    blank_captions: int
    """Dropped from rows that had others."""
    causes: dict[str, int]
    """Skipped rows by cause, most frequent first."""
    skipped: list[SkippedRow]


def make_shards(
    rows: Iterable[Row],
    out: Path | str,
    *,
    images: Path | str,
    sounds: Path | str | None = None,
    shard_size: int | None = None,
    shard_bytes: int | None = None,
    max_side: int | None = None,
    quality: int = 90,
    max_pixels: int = 100_000_000,
    max_image_bytes: int = 100_000_000,
    workers: int = 2,
    overwrite: bool = False,
) -> ShardsReport:
    """Write the shards to the folder `out`, complete or not at all.

    images: folder that relative paths of images and videos start from; sounds: those of sounds, default `images`.
    shard_size: samples per shard (default 1000), or shard_bytes:
    largest size of a shard in bytes, not both. max_side: larger images are shrunk to this many pixels on their longer
    side and stored upright, as RGB JPEG of `quality` (1 to 95); default: none. max_pixels: larger
    images are skipped; max_image_bytes: larger files. workers: processes. overwrite: replace an `out` that is there.
    InputError: an impossible value, an `out` that is in use or cannot be written, no usable row.
    """
    limits = {"max_pixels": max_pixels, "max_image_bytes": max_image_bytes}
    _check_options(shard_size, shard_bytes, quality, limits | {"max_side": max_side, "workers": workers})
    out, images = Path(out).resolve(), Path(images)
    sounds = images if sounds is None else Path(sounds)
    for name, folder in (("images", images), ("sounds", sounds)):
        if not folder.is_dir():
            raise InputError(f"{name}: {folder} is no folder; give the one that {name[:-1]} paths start from")
    check_out(out, (images, sounds), overwrite)
    pack = partial(pack_row, images=images, sounds=sounds, max_side=max_side, quality=quality, **limits)
    partly = unfinished(out)
    try:
        shutil.rmtree(partly, ignore_errors=True)
        writer = ShardWriter(partly, shard_size or 1000, shard_bytes)
        report = _write_shards(writer, rows, pack, workers)
        if not report.samples:
            causes = ", ".join(f"{count} x {cause}" for cause, count in report.causes.items()) or "there are none"
            raise InputError(f"rows: no usable one among {report.rows} ({causes}); give images with texts")
        (partly / "report.json").write_text(json.dumps(asdict(report), indent=1) + "\n")
        put_in_place(out)
    except OSError as error:
        raise InputError(f"out: {out} cannot be written ({error}); name a folder with space that is yours") from error
    finally:
        shutil.rmtree(partly, ignore_errors=True)
    return report


def _check_options(
    shard_size: int | None, shard_bytes: int | None, quality: int, counts: dict[str, int | None]
) -> None:
    if shard_size is not None and shard_bytes is not None:
        raise InputError(f"shard_size: {shard_size} and shard_bytes: {shard_bytes} are both given; give one of them")
    for name, value in (counts | {"shard_size": shard_size, "shard_bytes": shard_bytes}).items():
        require(value is None or value >= 1, name, value, "an integer >= 1")
    require(1 <= quality <= 95, "quality", quality, "1 to 95")


def _write_shards(writer: ShardWriter, rows: Iterable[Row], pack: Callable, workers: int) -> ShardsReport:
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
                if isinstance(packed, SkippedRow):
                    skipped.append(packed)
                    bar.set_postfix(skipped=len(skipped), refresh=False)
                    continue
                blank += row.blank_captions
                text = json.dumps(row.sample)
                writer.write(f"{index:09d}", {**packed.files, "json": text.encode()})
        except BrokenProcessPool as error:
            raise InputError(f"workers: one of {workers} was killed, perhaps for its memory; try fewer") from error
        finally:
            pool.shutdown(cancel_futures=True)
    causes = Counter(row.cause for row in skipped)
    return ShardsReport(count, count - len(skipped), len(writer.sizes), blank, dict(causes.most_common()), skipped)


def _leave_signals_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _in_order(
    pool: Executor, pack: Callable, rows: Iterable[Row], tasks: int
) -> Iterator[tuple[Row, Packed | SkippedRow]]:
    """Rows as given, packed by the pool; at most `tasks` tasks are under way, so that memory stays flat."""
    rows, under_way = iter(rows), deque()
    while True:
        while len(under_way) < tasks and (some := list(islice(rows, ROWS_PER_TASK))):
            under_way.append((some, pool.submit(_pack_rows, pack, some)))
        if not under_way:
            return
        some, future = under_way.popleft()
        yield from zip(some, future.result(), strict=True)


def _pack_rows(pack: Callable, rows: list[Row]) -> list[Packed | SkippedRow]:
    return [pack(row) for row in rows]
