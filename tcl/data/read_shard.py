"""Samples of one shard, undecoded; whatever cannot be read comes as a sample with its problem."""

import contextlib
import os
import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from webdataset.gopen import gopen
from webdataset.handlers import reraise_exception
from webdataset.tariterators import base_plus_ext, group_by_keys, tar_file_expander

UNREADABLE = "unreadable shard"
TRUNCATED = "truncated tar, or fewer samples than its count"
TOO_MANY = "not in sizes.json"
DUPLICATE = "duplicate name in tar"
NO_EXTENSION = "tar entry without extension"
BESIDE_SAMPLES = (TOO_MANY, NO_EXTENSION)
"""Causes that are noted beside the samples, and cost none."""

RETRY_SECONDS = (1, 4, 16)
"""Waits before a remote shard is opened again after a read error."""

_TAR_NAME = re.compile(r"[^/\s'\"]+\.tar(\.\w+)?")


@dataclass
class RawSample:
    """Sample `index` (>= 0) of a shard: its bytes by extension, or the problem that kept them from being read."""

    key: str
    """'<shard name>/<sample key>'."""
    index: int
    fields: dict[str, bytes]
    problem: str | None = None
    notices: list[tuple[str, str]] = field(default_factory=list)
    """(cause, key) of things beside the samples that were met on the way here, e.g. a tar entry without extension."""


def is_remote(url: str) -> bool:
    return re.match(r"pipe:|\w[\w+.-]*://", url) is not None


def shard_name(url: str) -> str:
    """'000000.tar' of a path, a URL or a pipe: command."""
    if not is_remote(url):
        return os.path.basename(url)
    names = [match.group() for match in _TAR_NAME.finditer(url)]
    return names[-1] if names else url.rpartition("/")[2]


def beside(url: str, name: str) -> str:
    """The path, URL or pipe: command of file `name` in the folder of shard `url`."""
    if not is_remote(url):
        return os.path.join(os.path.dirname(url), name)
    head, _, tail = url.rpartition(shard_name(url))
    return head + name + tail


def open_url(url: str) -> BinaryIO:
    """A byte stream of a path or URL; what goes wrong is raised here or by its read()."""
    if not is_remote(url):
        return open(url, "rb")
    if url.startswith("s3://"):  # webdataset knows no s3
        url = f"pipe:aws s3 cp --quiet {shlex.quote(url)} -"
    return gopen(url)


def read_samples(url: str, start: int = 0, stop: int | None = None, *, size: int | None = None) -> Iterator[RawSample]:
    """Samples start .. stop - 1 of the shard at `url`, in the order of the tar; never raises for what it finds.

    With a `stop` exactly stop - start samples come: those that cannot be read have UNREADABLE or TRUNCATED as their
    problem. Without one all samples come, and one with a problem if the shard breaks off. Where stop equals the
    shard's supposed `size`, a sample beyond it is noted as TOO_MANY. A remote shard is retried a few times.
    """
    index = start
    for wait in (*RETRY_SECONDS, None) if is_remote(url) else (None,):
        try:
            for sample in _read_once(url, index, stop, size, may_retry=wait is not None):
                yield sample
                index = sample.index + 1
            return
        except _BrokenShard as error:
            problem = str(error)
        if wait is not None:
            time.sleep(wait)
    for missing in range(index, index + 1 if stop is None else stop):
        yield RawSample(f"{shard_name(url)}/#{missing}", missing, {}, problem)


class _BrokenShard(Exception):
    pass


def _read_once(url: str, start: int, stop: int | None, size: int | None, may_retry: bool) -> Iterator[RawSample]:
    name = shard_name(url)
    notices: list[tuple[str, str]] = []
    duplicates: list[Exception] = []
    entries = 0
    ended, broken = False, None

    def read_entries() -> Iterator[dict]:
        nonlocal ended, broken
        try:
            with contextlib.closing(_Quiet(open_url(url))) as stream:
                source = [{"url": url, "stream": stream}]
                yield from tar_file_expander(source, handler=reraise_exception, eof_value=None)
        except Exception as error:  # hostile bytes make tarfile and the decompressors raise almost anything
            broken = error
        ended = True
        yield {}  # webdataset's mark for the end of a shard: the sample before it comes out

    def split_name(path: str) -> tuple[str | None, str | None]:
        nonlocal entries
        entries += 1
        key, extension = base_plus_ext(path)
        if key is None:
            notices.append((NO_EXTENSION, f"{name}/{path}"))
        return key, extension

    def note_duplicate(error: Exception) -> bool:
        duplicates.append(error)
        return True

    def ends_early(read: int) -> bool:
        return broken is not None or (stop is not None and read < stop)

    read = 0
    with contextlib.closing(read_entries()) as tar_entries:
        samples = group_by_keys(tar_entries, keys=split_name, handler=note_duplicate)
        for index, fields in enumerate(samples):
            read = index + 1
            if ended and may_retry and ends_early(read):
                break  # perhaps only half of this sample arrived
            key = f"{name}/{fields.pop('__key__')}"
            del fields["__url__"]
            problem = DUPLICATE if duplicates else None
            last = read == stop
            if last and stop == size and next(samples, None) is not None:
                notices.append((TOO_MANY, key))
            if index >= start:
                yield RawSample(key, index, {} if problem else fields, problem, list(notices))
            if last:
                return
            notices.clear()
            duplicates.clear()
    if ends_early(read):
        raise _BrokenShard(TRUNCATED if entries else UNREADABLE) from broken


class _Quiet:
    """A stream whose close() does not complain: a reader that stops early leaves the remote command unfinished."""

    def __init__(self, stream: BinaryIO):
        self.read = stream.read
        self._stream = stream

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.close()
