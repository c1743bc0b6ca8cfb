"""Indexes for the tests of tcl.index: a tiny model, photographs, and what an index must be the same as."""

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from data_files import noise
from tiny_pretrained import tiny_tcl

from tcl.index.description import read_description
from tcl.index.share import Share
from tcl.index.stages import Stages
from tcl.index.store import Store
from tcl.index.write import Wanted, write_index

BATCH = 3


def tiny_stages(source: str = "tiny") -> Stages:
    return Stages(tiny_tcl(batch_size=BATCH), source)


def photographs(folder: Path, numbers: range) -> list[str]:
    """Noise, some of it deeper; names in the order of bytes."""
    names = [f"{'deep/er/' * (i % 2)}{i:03d}.png" for i in numbers]
    for name, i in zip(names, numbers, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise(i, (40, 30)).save(folder / name)
    return sorted(names, key=os.fsencode)


def build(folder: Path, images: Path, stages: Stages, workers: int = 0, **wanted: object):
    """Of all photographs below `images`."""
    return write_index(folder, Wanted(images=str(images), **wanted), stages, Share(), workers=workers)


def lines_of(build: Callable[[], object], stop: int | None) -> int:
    """Builds; how many lines of tcl/index that took. This process is killed at line number `stop`."""
    taken = 0

    def count(frame, event, argument):
        nonlocal taken
        if "/tcl/index/" not in frame.f_code.co_filename:
            return None
        taken += event == "line"
        if taken == stop:
            os.kill(os.getpid(), signal.SIGKILL)
        return count

    sys.settrace(count)
    try:
        build()
    finally:
        sys.settrace(None)
    return taken


@dataclass
class Content:
    """All that is in an index."""

    items: list[tuple]
    embeddings: bytes
    tokens: bytes
    pictures: list[bytes]
    skipped: list


def content(folder: Path) -> Content:
    """Row by row, to the bit."""
    store = Store(folder, read_description(folder), writable=False)
    items = list(store.catalogue.items())
    rows = np.array([item.row for item in items], np.int64)
    tokens = b"" if store.tokens is None else store.tokens.read(rows).tobytes()
    pictures = [store.catalogue.picture(item.id) for item in items]
    found = Content(items, store.embeddings.read(rows).tobytes(), tokens, pictures, store.catalogue.skipped())
    store.close()
    return found


def in_a_child(work: Callable[[], None]) -> int:
    """In a forked process; the signal that ended it, or 0."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            torch.set_num_threads(1)
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status)
    assert os.WEXITSTATUS(status) == 0
    return 0
