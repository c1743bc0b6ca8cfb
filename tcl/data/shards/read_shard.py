"""Samples of one shard, undecoded; whatever cannot be read comes as a sample with its problem."""

import contextlib
import os
import re
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from webdataset.gopen import gopen

from tcl.config.data import DataConfig
from tcl.data.shards.bad_sample import BadSample
from tcl.data.shards.sample_keys import Grouped, Member, grouped, is_own_sample, member_of
from tcl.data.shards.shard_bytes import ExpandsTooMuchError, ShardBytes, open_file
from tcl.data.shards.tar_entries import tar_entries
from tcl.data.texts.captions import spelt_out

UNREADABLE = "unreadable shard"
TRUNCATED = "truncated tar, or fewer samples than its count"
EXPANDS = "compressed shard expands too much"
TOO_LARGE_SAMPLE = "larger than data.max_sample_bytes"
SPARSE = "sparse file in tar"
TOO_MANY = "not in sizes.json"
CUT_SHORT = "tar breaks off after its last sample"
DUPLICATE = "duplicate name in tar"
NO_EXTENSION = "tar entry without extension"
BESIDE_SAMPLES = (TOO_MANY, CUT_SHORT, NO_EXTENSION)
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

    def usable(self) -> dict[str, bytes]:
        """`fields`. BadSample: the problem."""
        if self.problem is not None:
            raise BadSample(self.problem)
        return self.fields


def is_remote(url: str) -> bool:
    """Whether `url`, of which list_shards knows the kind, is a URL or a pipe: command: a file that is merely called so
    has its folder in front."""
    return re.match(r"pipe:|\w[\w+.-]*://", url) is not None


def shard_name(url: str) -> str:
    """'000000.tar' of a path, a URL or a pipe: command; bytes of a path that are no text are spelt out."""
    if not is_remote(url):
        return spelt_out(os.path.basename(url))
    names = [match.group() for match in _TAR_NAME.finditer(url)]
    return names[-1] if names else url.rpartition("/")[2]


def beside(url: str, name: str) -> str:
    """The path, URL or pipe: command of file `name` in the folder of shard `url`."""
    if not is_remote(url):
        return os.path.join(os.path.dirname(url), name)
    head, _, tail = url.rpartition(shard_name(url))
    return head + name + tail


def open_url(url: str) -> BinaryIO:
    """A byte stream of a path or URL; what goes wrong is raised here or by its read(). OSError: no regular file."""
    if not is_remote(url):
        return open_file(url)
    if url.startswith("s3://"):  # webdataset knows no s3
        url = f"pipe:aws s3 cp --quiet {shlex.quote(url)} -"
    return gopen(url)


def read_samples(
    url: str,
    start: int = 0,
    stop: int | None = None,
    *,
    size: int | None = None,
    max_sample_bytes: int = DataConfig.max_sample_bytes,
) -> Iterator[RawSample]:
    """Samples start .. stop - 1 of the shard at `url`, in the order of the tar; never raises for what it finds.

    Which files make a sample is said at `sample_keys.grouped`. With a `stop` exactly stop - start samples come: those
    that cannot be read have UNREADABLE, TRUNCATED or EXPANDS as their problem. Without one all samples come, and one
    with a problem if the shard breaks off. Where stop equals the shard's supposed `size`, a sample beyond it is noted
    as TOO_MANY. One of more than max_sample_bytes is passed over unread. A remote shard is retried a few times.
    """
    index = start
    for wait in (*RETRY_SECONDS, None) if is_remote(url) else (None,):
        try:
            shard = _OpenShard(url, max_sample_bytes)
            for sample in shard.samples(index, stop, size, may_retry=wait is not None):
                yield sample
                index = sample.index + 1
            return
        except _BrokenShardError as error:
            problem = str(error)
        if wait is not None:
            time.sleep(wait)
    for missing in range(index, index + 1 if stop is None else stop):
        yield RawSample(f"{shard_name(url)}/#{missing}", missing, {}, problem)


def count_samples(path: str) -> int:
    """Samples of a local shard, from its headers alone; as far as it can be read, and at least one if it breaks off."""
    broken = False

    def members() -> Iterator[Member]:
        nonlocal broken
        try:
            with _opened(path) as stream:
                for entry in tar_entries(ShardBytes(stream)):
                    if member := member_of(entry.name):
                        yield member
        except Exception:  # as in reading
            broken = True

    count = sum(1 for _ in grouped(members()))
    return max(count, 1) if broken else count


class _BrokenShardError(Exception):
    """str() is the problem of the samples that are missing."""


class _OpenShard:
    """One attempt to read a shard."""

    def __init__(self, url: str, max_sample_bytes: int):
        self.url = url
        self.name = shard_name(url)
        self.max_sample_bytes = max_sample_bytes
        self.entries = 0
        self.ended = False
        self.broken: Exception | None = None
        self.notices: list[tuple[str, str]] = []

    def samples(self, start: int, stop: int | None, size: int | None, may_retry: bool) -> Iterator[RawSample]:
        """As read_samples, but that it breaks off. _BrokenShardError: it did."""
        read = 0
        with contextlib.closing(self._members()) as members:
            samples = grouped(members)
            for index, group in enumerate(samples):
                read = index + 1
                if self.ended and may_retry and self._ends_early(read, stop):
                    break  # perhaps only half of this sample arrived
                last = read == stop
                if last and stop == size:
                    self._note_what_follows(samples, f"{self.name}/{group.key}")
                if index >= start:
                    yield self._sample(group, index)
                if last:
                    return
                self.notices.clear()
        if self._ends_early(read, stop):
            raise _BrokenShardError(self._cause()) from self.broken

    def _members(self) -> Iterator[Member]:
        room = _Room(self.max_sample_bytes)
        try:
            with _opened(self.url) as stream:
                tar = ShardBytes(stream)
                for entry in tar_entries(tar):
                    self.entries += 1
                    member = member_of(entry.name)
                    if member is None:
                        self.notices.append((NO_EXTENSION, f"{self.name}/{entry.name}"))
                    elif not room.take(member, entry.size):
                        yield replace(member, problem=TOO_LARGE_SAMPLE)
                    elif entry.sparse:
                        yield replace(member, problem=SPARSE)
                    else:
                        yield replace(member, content=_whole(tar, entry.size))
        except Exception as error:  # hostile bytes make the decompressors raise almost anything
            self.broken = error
        self.ended = True

    def _ends_early(self, read: int, stop: int | None) -> bool:
        return self.broken is not None or (stop is not None and read < stop)

    def _cause(self) -> str:
        if isinstance(self.broken, ExpandsTooMuchError):
            return EXPANDS
        return TRUNCATED if self.entries else UNREADABLE

    def _note_what_follows(self, samples: Iterator[Grouped], key: str) -> None:
        if next(samples, None) is not None:
            self.notices.append((TOO_MANY, key))
        elif self.broken is not None:
            self.notices.append((CUT_SHORT, key))

    def _sample(self, group: Grouped, index: int) -> RawSample:
        fields = {group.extension(member): member.content for member in group.members}
        problem = next((member.problem for member in group.members if member.problem), None)
        if len(fields) < len(group.members):
            problem = DUPLICATE
        key = f"{self.name}/{group.key}"
        return RawSample(key, index, {} if problem else fields, problem, list(self.notices))


@contextlib.contextmanager
def _opened(url: str) -> Iterator[BinaryIO]:
    """Closes without complaint: a reader that stops early leaves the remote command unfinished."""
    stream = open_url(url)
    try:
        yield stream
    finally:
        with contextlib.suppress(OSError):
            stream.close()


def _whole(tar: ShardBytes, size: int) -> bytes:
    content = tar.read(size)
    if len(content) < size:
        raise EOFError("the shard ends within a file")
    return content


class _Room:
    """What a sample may still have of its bytes, as members come; `grouped` says when a sample ends."""

    def __init__(self, size: int):
        self.size = size
        self._held = 0
        self._run: list[Member] = []
        self._run_bytes = 0

    def take(self, member: Member, size: int) -> bool:
        """Whether the sample of `member` has room for its `size` bytes, which are then taken."""
        if self._run and member.key != self._run[0].key:
            self._held, self._run, self._run_bytes = 0, [], 0
        elif self._run and member.stem != self._run[0].stem:
            self._held -= self._run_bytes if is_own_sample(self._run) else 0
            self._run, self._run_bytes = [], 0
        self._run.append(member)
        if self._held + size > self.size:
            return False
        self._held += size
        self._run_bytes += size
        return True
