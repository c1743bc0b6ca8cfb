"""What a folder or shards hold now, against what an index knows of them."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tcl.data.shards.read_shard import is_remote
from tcl.index.catalogue import State

NEVER_ENTERED = "folder behind a link, not entered"
CLOSED = "folder cannot be read"


class Work(NamedTuple):
    """A file that is to be read."""

    file: bytes
    """Its name as the catalogue has it."""
    size: int
    changed: int
    """As `State` says."""
    first: int
    """The first of its samples that was not read yet."""


@dataclass
class Changes:
    """Of a folder, or of shards."""

    work: list[Work] = field(default_factory=list)
    """New and changed files, and those that were read in part, by name."""
    drop: list[bytes] = field(default_factory=list)
    """Files of which nothing that is known holds: they are gone, or changed."""
    gone: int = 0
    """How many of `drop` are no longer there."""
    closed: list[tuple[bytes, str]] = field(default_factory=list)
    """What could not be looked into, and why; files below are taken to be as they were."""


class Found(NamedTuple):
    """A file that is there."""

    name: bytes
    size: int
    changed: int


def changes(found: Iterable[Found], closed: list[tuple[bytes, str]], known: dict[bytes, State]) -> Changes:
    """known: by name; what remains of it when all that was found is taken out is gone."""
    result, left = Changes(closed=closed), dict(known)
    for one in found:
        state = left.pop(one.name, None)
        same = state is not None and (state.size, state.changed) == (one.size, one.changed)
        if same and state.whole:
            continue
        if state is not None and not same:
            result.drop.append(one.name)
        result.work.append(Work(*one, first=state.samples if same else 0))
    below = tuple(place + b"/" for place, _ in closed)
    gone = [name for name in left if not name.startswith(below)]
    result.drop += gone
    result.gone = len(gone)
    result.work.sort()
    return result


def files_below(folder: str, closed: list[tuple[bytes, str]], but: Path) -> Iterator[Found]:
    """All files below `folder`, links among them; folders behind links are not entered, and told of in `closed` as are
    those that cannot be read. but: a folder that is left out, the index. OSError: `folder` itself cannot be read."""
    root = os.fsencode(folder)
    left_out = os.path.relpath(os.path.realpath(os.fsencode(but)), os.path.realpath(root))
    places = [b""]
    while places:
        place = places.pop()
        try:
            with os.scandir(os.path.join(root, place) if place else root) as entries:
                listed = list(entries)
        except OSError:
            if not place:
                raise
            closed.append((place, CLOSED))
            continue
        for entry in listed:
            name = os.path.join(place, entry.name)
            try:
                if entry.is_dir(follow_symlinks=False):
                    if name != left_out:
                        places.append(name)
                elif entry.is_symlink() and _leads_to_folder(entry):
                    closed.append((name, NEVER_ENTERED))
                else:
                    yield _stated(name, entry.stat(follow_symlinks=False), entry)
            except OSError:
                continue  # it has gone since the folder was listed


def shards_now(urls: Iterable[str]) -> Iterator[Found]:
    """Of those behind a URL nobody knows whether they changed. OSError: a file has gone since it was listed."""
    for url in urls:
        stat = None if is_remote(url) else os.stat(url)
        yield Found(os.fsencode(url), *((0, 0) if stat is None else (stat.st_size, stat.st_mtime_ns)))


def _leads_to_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _stated(name: bytes, stat: os.stat_result, entry: os.DirEntry) -> Found:
    """A link changes with what it points to."""
    if entry.is_symlink():
        try:
            target = entry.stat()
            return Found(name, target.st_size, max(target.st_mtime_ns, stat.st_mtime_ns))
        except OSError:  # it leads nowhere, which will be told of when it is read
            pass
    return Found(name, stat.st_size, stat.st_mtime_ns)
