"""faiss in the index's folder: all vectors up to FLAT_UP_TO, above that lists of which a search reads the nearest.

The lists' centres (k-means) are kept while images come and go, and fitted anew once the images have doubled. The file
is written beside and renamed, and mapped into memory: what a search does not read takes none.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from tcl.errors import InputError
from tcl.index.embedding_rows import EmbeddingRows
from tcl.index.within import Within
from tcl.optional_package import import_optional
from tcl.whole_file import write_whole

if TYPE_CHECKING:
    from tcl.index.engine import Entries, Update

FILE = "faiss.index"
FLAT_UP_TO = 100_000
SAMPLES_A_LIST = 40
"""To which centres are fitted."""
SHARE_OF_LISTS = 32
"""A search reads one list in so many, and LEAST_LISTS at least."""
LEAST_LISTS = 16
FIRST_SEED = 0


class FaissEngine:
    """As tcl.index.engine.Engine says."""

    def __init__(self, folder: Path, rows: EmbeddingRows, ids_within: Callable[[Within], np.ndarray]):
        self.path, self.rows, self.ids_within = folder / FILE, rows, ids_within
        self._opened = None

    def update(self, update: "Update") -> None:
        """As Engine.update."""
        faiss = _faiss()
        try:
            index = self._grown(faiss, update)
            if index is not None:
                self._write(faiss, index)
        except OSError as error:
            raise _not_written(self.path, error) from error
        self._opened = None

    def search(self, query: np.ndarray, k: int, within: Within | None) -> np.ndarray:
        """As Engine.search."""
        faiss = _faiss()
        index = self._open(faiss)
        chosen = {}
        if within is not None:
            ids = self.ids_within(within)
            if not len(ids):
                return ids
            chosen["sel"] = faiss.IDSelectorBatch(ids)
        if isinstance(index, faiss.IndexIVF):
            # Those of a selection may lie in any list.
            lists = max(LEAST_LISTS, index.nlist // SHARE_OF_LISTS) if within is None else index.nlist
            parameters = faiss.SearchParametersIVF(nprobe=min(lists, index.nlist), **chosen)
        else:
            parameters = faiss.SearchParameters(**chosen)
        _, found = index.search(query[None].astype(np.float32), k, params=parameters)
        return found[0][found[0] >= 0]

    def describe(self) -> str:
        """As Engine.describe."""
        faiss = _faiss()
        index = self._open(faiss)
        if isinstance(index, faiss.IndexIVF):
            return f"faiss, {index.nlist:,} lists"
        return "faiss, flat"

    def close(self) -> None:
        """As Engine.close."""
        self._opened = None

    def _open(self, faiss: ModuleType):
        if self._opened is None:
            try:
                self._opened = faiss.read_index(str(self.path), _flags(faiss, self.path))
            except RuntimeError as error:
                raise InputError(
                    f"index: {self.path} is missing or damaged; `tcl index` of the same folder makes it again"
                ) from error
        return self._opened

    def _grown(self, faiss: ModuleType, update: "Update"):
        """The index as it is to be; None: as it is."""
        old = self._old(faiss)
        if update.count <= FLAT_UP_TO:
            fresh = old is None or isinstance(old, faiss.IndexIVF) or old.ntotal != update.count
            changed = len(update.removed) or next(update.pending(), None) is not None
            return _filled(self._flat(faiss), update.all()) if fresh or changed else None
        lists = lists_of(update.count)
        if not isinstance(old, faiss.IndexIVF) or lists >= 2**0.5 * old.nlist:
            return _filled(self._lists(faiss, lists, update), update.all())
        before = old.ntotal
        removed = old.remove_ids(faiss.IDSelectorBatch(update.removed)) if len(update.removed) else 0
        for some in update.pending():
            removed += old.remove_ids(faiss.IDSelectorBatch(some.ids))  # of an update that was stopped
            old.add_with_ids(some.embeddings, some.ids)
        if old.ntotal != update.count:  # a file that is older than the catalogue
            return _filled(self._lists(faiss, lists, update), update.all())
        return old if removed or old.ntotal != before else None

    def _old(self, faiss: ModuleType):
        try:
            return faiss.read_index(str(self.path))
        except RuntimeError:  # none, or a damaged one: it is made again
            return None

    def _flat(self, faiss: ModuleType):
        return faiss.IndexIDMap(faiss.IndexFlatIP(self.rows.embed_dim))

    def _lists(self, faiss: ModuleType, lists: int, update: "Update"):
        """Fitted to every n-th vector, and empty."""
        width, metric = self.rows.embed_dim, faiss.METRIC_INNER_PRODUCT
        centres = faiss.IndexFlatIP(width)
        if self.rows.storage == "codes":
            index = faiss.IndexIVFPQ(centres, width, lists, len(self.rows.codebooks), 8, metric)
            index.by_residual = False
            faiss.copy_array_to_vector(_padded(self.rows.codebooks).ravel(), index.pq.centroids)
        else:
            kind = faiss.ScalarQuantizer.QT_8bit if self.rows.storage == "int8" else faiss.ScalarQuantizer.QT_fp16
            index = faiss.IndexIVFScalarQuantizer(centres, width, lists, kind, metric, False)
        centres.this.disown()
        index.own_fields = True
        step = max(1, update.count // (SAMPLES_A_LIST * lists))
        sample = np.concatenate([some.embeddings[::step] for some in update.all()])
        clusters = faiss.Kmeans(width, lists, spherical=True, seed=FIRST_SEED, niter=10, min_points_per_centroid=1)
        clusters.train(sample)
        centres.add(clusters.centroids)
        if self.rows.storage == "codes":
            index.is_trained = True
        else:
            index.train(sample)
        return index

    def _write(self, faiss: ModuleType, index) -> None:
        try:
            write_whole(self.path, lambda out: faiss.write_index(index, str(out)))
        except RuntimeError as error:
            raise _not_written(self.path, OSError(None, "a full disk, or no permission")) from error


def lists_of(count: int) -> int:
    """How many lists for so many images."""
    return round(2 * count**0.5)


def _filled(index, entries: Iterator["Entries"]):
    for some in entries:
        index.add_with_ids(some.embeddings, some.ids)
    return index


def _flags(faiss: ModuleType, path: Path) -> int:
    """Lists are mapped by one reader, and flat vectors by another."""
    with path.open("rb") if path.is_file() else open(os.devnull, "rb") as file:
        return faiss.IO_FLAG_MMAP if file.read(2) == b"Iw" else faiss.IO_FLAG_MMAP_IFC


def _padded(codebooks: np.ndarray) -> np.ndarray:
    """[P, K, d] -> [P, 256, d], whose rows side by side have length 1."""
    parts, words, width = codebooks.shape
    books = np.zeros((parts, 256, width), np.float32)
    books[:, :words] = codebooks / parts**0.5
    return books


def _faiss() -> ModuleType:
    return import_optional("faiss", "search")


def _not_written(path: Path, error: OSError) -> InputError:
    return InputError(
        f"index: {path} cannot be written ({error.strerror or error}); make room, and the same command goes on"
    )
