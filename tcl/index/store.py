"""The files of an index in its folder, and what is written to them as one.

index.json        tcl.index.description
catalogue.sqlite  tcl.index.catalogue
embeddings.rows   a row for each image, tcl.index.embedding_rows
tokens.rows       image tokens for matching, where they are kept
codebooks.npy     of embeddings that are codes
bank.npy          queries by which images know their hubness, where they are given
faiss.index       made of the embeddings, where faiss searches
skipped.json      what could not be read, where there was any
progress.json     while it is being written, tcl.index.progress
.lock             held by the process that writes
"""

import contextlib
import errno
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from tcl.data.tokens.stored_tokens import StoredTokens, store_tokens
from tcl.errors import InputError
from tcl.index.catalogue import Catalogue, State
from tcl.index.description import Description
from tcl.index.embedding_rows import EmbeddingRows
from tcl.index.read_items import FileRead
from tcl.index.rows_file import RowsFile
from tcl.inference.embeddings_file import read_embeddings, write_skipped
from tcl.search.hubness import hubness

CATALOGUE, EMBEDDINGS, TOKENS = "catalogue.sqlite", "embeddings.rows", "tokens.rows"
CODEBOOKS, BANK, SKIPPED, LOCK = "codebooks.npy", "bank.npy", "skipped.json", ".lock"


class Store:
    """An opened index, without its engine."""

    def __init__(self, folder: Path, description: Description, *, writable: bool):
        """InputError: files that are missing, damaged or cannot be written."""
        self.folder, self.description = folder, description
        with told(folder):
            books = _read_codebooks(folder / CODEBOOKS) if description.embeddings == "codes" else None
            self.rows = EmbeddingRows(description.embeddings, description.embed_dim, books)
            self._bank = torch.from_numpy(read_embeddings(folder / BANK, "bank")) if description.bank else None
            self.catalogue = Catalogue(folder / CATALOGUE, writable=writable)
            self.embeddings = RowsFile(folder / EMBEDDINGS, self.rows.dtype, writable=writable)
            self.tokens = None
            if description.tokens != "none":
                self.tokens = RowsFile(folder / TOKENS, token_dtype(description), writable=writable)
            used = self.catalogue.rows()
            for file in self._files():
                file.check(int(used[-1]) + 1 if len(used) else 0)
        self._free = _free_rows(used) if writable else iter(())

    def keep(self, files: list[FileRead], embeddings: np.ndarray, tokens: Tensor | None) -> None:
        """What was read of some files, with what the model made of the good items, in their order. It counts after
        `commit`. InputError: a full disk."""
        with told(self.folder):
            places = np.array([next(self._free) for _ in embeddings], np.int64)
            if len(places):
                self.embeddings.write(places, self.rows.pack(embeddings, self._hubness(embeddings)))
                if self.tokens is not None:
                    self.tokens.write(places, pack_tokens(tokens, self.description))
            for read in files:
                good = [item for item in read.items if item.problem is None]
                name = read.work.file
                self.catalogue.add(name, good, places[: len(good)])
                self.catalogue.skip(name, [item for item in read.items if item.problem is not None])
                self.catalogue.set_state(name, State(read.work.size, read.work.changed, read.samples, read.whole))
                places = places[len(good) :]

    def drop(self, files: list[bytes]) -> int:
        """All that is known of them, at once; how many images that were. InputError: a full disk."""
        with told(self.folder):
            dropped = self.catalogue.drop(files)
            self.catalogue.commit()
            self._free = _free_rows(self.catalogue.rows())
            return dropped

    def commit(self) -> None:
        """All that was kept is on the disk, and counts. InputError: a full disk."""
        with told(self.folder):
            for file in self._files():
                file.sync()
            self.catalogue.commit()

    def list_skipped(self) -> None:
        """Into skipped.json. InputError: a full disk."""
        skipped = self.catalogue.skipped()
        with told(self.folder):
            write_skipped(skipped, self.folder / SKIPPED)

    def read_embeddings(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """At places [n]: float32 [n, D], and hubness float32 [n]."""
        found = self.embeddings.read(rows)
        return self.rows.unpack(found), found["hubness"].copy()

    def read_tokens(self, rows: np.ndarray) -> StoredTokens:
        """At places [n]: [n, N, W]."""
        found = self.tokens.read(rows)
        values = torch.from_numpy(found["values"].copy())
        scales = torch.from_numpy(found["scales"].copy()) if self.description.tokens == "int8" else None
        return StoredTokens(values, scales)

    def bytes_of_image(self) -> int:
        """In the files of rows: what grows with the images, beside the catalogue and the engine."""
        return sum(file.dtype.itemsize for file in self._files())

    def close(self) -> None:
        """What was kept since the last `commit` is lost."""
        self.catalogue.close()
        for file in self._files():
            file.close()

    def _files(self) -> list[RowsFile]:
        return [file for file in (self.embeddings, self.tokens) if file is not None]

    def _hubness(self, embeddings: np.ndarray) -> np.ndarray | None:
        if self._bank is None:
            return None
        kept = torch.from_numpy(self.rows.unpack(self.rows.pack(embeddings, None)))
        return hubness(self._bank, kept, "inverted_softmax", self.description.bank_temperature).numpy()


@dataclass(frozen=True)
class TokensAt:
    """A tcl.search.match_stored.TokenStore: image i is the one at rows[i] [n] of the store."""

    store: Store
    rows: np.ndarray

    def read(self, images: Tensor) -> StoredTokens:
        """As TokenStore.read."""
        return self.store.read_tokens(self.rows[images.numpy()])


def token_dtype(description: Description) -> np.dtype:
    """Of a row of tokens."""
    N, W = description.token_shape
    if description.tokens == "fp16":
        return np.dtype([("values", "<f2", (N, W))])
    return np.dtype([("scales", "<f4", (N,)), ("values", "i1", (N, W))])


def pack_tokens(tokens: Tensor, description: Description) -> np.ndarray:
    """fp32 [n, N, W] -> rows [n]. InputError: a value that cannot be stored."""
    stored = store_tokens(tokens, description.tokens)
    rows = np.empty(len(tokens), token_dtype(description))
    rows["values"] = stored.values.numpy()
    if stored.scales is not None:
        rows["scales"] = stored.scales.numpy()
    return rows


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """The folder, which is made, is locked for as long as the process is within. InputError: another one writes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"index: another process writes {folder}; wait for its end") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(f"index: {folder} is a file, or lies under one; name a folder") from error
    except OSError as error:
        raise not_written(folder, error) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def told(folder: Path) -> Iterator[None]:
    """InputError: what a full disk or a damaged file raises."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise _damaged(folder, f"{error.filename} is missing") from error
        raise not_written(folder, error) from error
    except sqlite3.OperationalError as error:  # a full disk, no permission
        if "locked" in str(error):
            raise InputError(f"index: {folder / CATALOGUE} is held by another process; try again later") from error
        raise InputError(
            f"index: {folder / CATALOGUE} cannot be used ({error}); make room or give it back, then the same command "
            f"goes on"
        ) from error
    except sqlite3.DatabaseError as error:
        raise _damaged(folder, str(error)) from error


def not_written(folder: Path, error: OSError) -> InputError:
    """What to say of it."""
    return InputError(
        f"index: {folder} cannot be written ({error.strerror or error}); make room, and the same command goes on"
    )


def _read_codebooks(path: Path) -> np.ndarray:
    try:
        books = np.load(path, allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise _damaged(path.parent, str(error)) from error
    if not isinstance(books, np.ndarray) or books.ndim != 3 or books.dtype != np.float32:
        raise _damaged(path.parent, f"{path.name} holds no codebooks")
    return books


def _damaged(folder: Path, what: str) -> InputError:
    said = " ".join(what.split())
    return InputError(f"index: {folder} is damaged ({said}); remove the folder and write it again with `tcl index`")


def _free_rows(used: np.ndarray) -> Iterator[int]:
    """Ascending, without end: those that none of `used`, ascending, takes."""
    end = int(used[-1]) + 1 if len(used) else 0
    taken = np.zeros(end, bool)
    taken[used] = True
    yield from np.flatnonzero(~taken).tolist()
    while True:
        yield end
        end += 1
