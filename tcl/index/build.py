"""Write an index, or bring one up to date: what is gone is dropped, what is new or changed is encoded.

What a stop leaves behind is a smaller index that is whole; the same call goes on from there, and in the end it is the
same as if nothing had happened, row by row. Several processes encode a batch each in turn, so that each of them is what
one process alone would have made.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm

from tcl.data.shards.list_shards import list_shards
from tcl.errors import InputError
from tcl.index.catalogue import name_of
from tcl.index.description import Description
from tcl.index.engine import Engine, Entries, Update
from tcl.index.progress import begin_progress, end_progress
from tcl.index.read_items import FileRead, ReadBatch, chunks_of, read_files, read_shards, stream_items
from tcl.index.scan import Changes, Found, Work, changes, files_below, shards_now
from tcl.index.share import Share
from tcl.index.stages import Stages
from tcl.index.store import Store, told
from tcl.shown import QUIET_SECONDS

COMMIT_SECONDS = 2.0
"""As much work a stop may cost, and a batch."""
ENTRIES_AT_A_TIME = 10_000


@dataclass(frozen=True)
class Built:
    """What a call has done."""

    images: int
    """In the index now."""
    encoded: int
    dropped: int
    """Images that were there before, of files that are gone or changed."""
    seconds: float
    """Reading and encoding."""


@dataclass(frozen=True)
class Encoded:
    """A batch, as it comes to rank 0."""

    files: list[FileRead]
    embeddings: np.ndarray
    """float32 [n, D]."""
    tokens: Tensor | None
    """fp32 [n, N, W]."""


def update_index(store: Store, engine: Engine, stages: Stages, share: Share, *, workers: int) -> Built:
    """On rank 0: bring the index to what its folder or shards hold. Others run `help_update`.

    workers: processes that decode, >= 0. InputError, then on all processes: no such folder or shards, a full disk.
    """
    try:
        found = look(store)
        dropped = store.drop(found.drop)
        store.catalogue.skip_places(found.closed)
        with told(store.folder):
            begin_progress(store.folder, store.catalogue.files_read() + len(found.work))
    except InputError as error:
        share.agree(str(error))
        raise
    share.agree(found.work)
    started = time.perf_counter()
    total = len(found.work) if store.description.shards is None else None
    with tqdm(total=total, desc="files", unit="", leave=False, delay=QUIET_SECONDS, disable=None) as bar:
        keeper = _Keeper(store, bar)
        _rounds(found.work, store.description, stages, share, workers, keeper.keep)
    store.commit()
    seconds = time.perf_counter() - started
    tell_engine(store, engine)
    store.list_skipped()
    with told(store.folder):
        end_progress(store.folder)
    return Built(store.catalogue.count(), keeper.encoded, dropped, seconds)


def help_update(description: Description, stages: Stages, share: Share, *, workers: int) -> None:
    """On every other rank: encode its share. InputError, as on rank 0."""
    work = share.agree(None)
    if isinstance(work, str):
        raise InputError(work)
    _rounds(work, description, stages, share, workers, keep=None)


class _Keeper:
    """Keeps batches, and commits them every COMMIT_SECONDS."""

    def __init__(self, store: Store, bar: tqdm):
        self.store, self.bar, self.encoded, self.committed = store, bar, 0, time.monotonic()

    def keep(self, batch: Encoded) -> None:
        self.store.keep(batch.files, batch.embeddings, batch.tokens)
        self.encoded += len(batch.embeddings)
        self.bar.update(sum(len(read.items) for read in batch.files))
        if time.monotonic() - self.committed >= COMMIT_SECONDS:
            self.store.commit()
            self.committed = time.monotonic()


def look(store: Store) -> Changes:
    """At the folder or the shards. InputError: there are none."""
    description, closed = store.description, []
    known = dict(store.catalogue.files())
    try:
        if description.images is not None:
            found: list[Found] = list(files_below(description.images, closed, but=store.folder))
        else:
            found = list(shards_now([] if description.shards is None else list_shards(description.shards)))
    except OSError as error:
        raise InputError(f"images: {error.filename} cannot be read ({error.strerror}); give what is there") from error
    if not found and known:
        raise InputError(
            f"images: {description.images} holds no file now, and {store.folder} has {store.catalogue.count():,} of "
            f"its images; is it mounted? To begin anew, remove {store.folder}"
        )
    return changes(found, closed, known)


def tell_engine(store: Store, engine: Engine) -> None:
    """All that it does not know yet. InputError: it cannot be written or reached."""
    engine.update(
        Update(
            count=store.catalogue.count(),
            removed=store.catalogue.removed(),
            pending=partial(entries_of, store, pending=True),
            all=partial(entries_of, store, pending=False),
        )
    )
    store.catalogue.set_known()
    store.commit()


def entries_of(store: Store, *, pending: bool) -> Iterator[Entries]:
    """Those that the engine does not know, or all, by id."""
    some = []
    for item in store.catalogue.items(pending=pending):
        some.append(item)
        if len(some) == ENTRIES_AT_A_TIME:
            yield _entries(store, some)
            some = []
    if some:
        yield _entries(store, some)


def _entries(store: Store, items: Sequence) -> Entries:
    embeddings, _ = store.read_embeddings(np.array([item.row for item in items], np.int64))
    return Entries(
        np.array([item.id for item in items], np.int64),
        embeddings,
        [name_of(item.file, item.key) for item in items],
        [item.taken for item in items],
    )


def _rounds(
    work: list[Work],
    description: Description,
    stages: Stages,
    share: Share,
    workers: int,
    keep: Callable[[Encoded], None] | None,
) -> None:
    """A batch of each process in turn, given to `keep` of rank 0, until there are no more.

    InputError on all processes: what goes wrong on one of them.
    """
    with contextlib.closing(_encoded(work, description, stages, share, workers)) as own:
        while _round(own, share, keep):
            pass


def _round(own: Iterator[Encoded], share: Share, keep: Callable[[Encoded], None] | None) -> bool:
    """Whether there was a batch."""
    mine: Encoded | InputError | None
    try:
        mine = next(own, None)
    except InputError as error:
        mine = error
    problem, batches = None, share.gather(mine)
    try:
        for one in batches:
            if isinstance(one, InputError):
                raise one
            if one is not None:
                keep(one)
    except InputError as error:
        problem = str(error)
    problem, more = share.agree((problem, any(one is not None for one in batches)))
    if problem is not None:
        raise InputError(problem)
    return more


def _encoded(
    work: list[Work], description: Description, stages: Stages, share: Share, workers: int
) -> Iterator[Encoded]:
    """The share of this process."""
    if description.images is None:
        chunks, read = chunks_of(work, 1), read_shards
    else:
        chunks, read = chunks_of(work, stages.batch_size), partial(read_files, Path(description.images))
    own = chunks[share.rank :: share.count]
    with_tokens = description.tokens != "none"
    if not own:
        return
    for batch in stream_items(own, read, stages.reader, batch_size=stages.batch_size, workers=workers):
        yield encode_batch(batch, stages, with_tokens)


def encode_batch(batch: ReadBatch, stages: Stages, with_tokens: bool) -> Encoded:
    """What the model makes of a batch, in its order. with_tokens: of a model that sees images alone."""
    embeddings, tokens = np.empty((len(batch.modalities), stages.embed_dim), np.float32), None
    for modality, inputs in batch.inputs.items():
        places = [i for i, one in enumerate(batch.modalities) if one == modality]
        embeddings[places], tokens = stages.encode(modality, inputs, tokens=with_tokens)
    return Encoded(batch.files, embeddings, tokens)
