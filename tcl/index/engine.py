"""What finds candidates in an index: faiss in its folder, or Milvus elsewhere. What is told of them are their ids; the
order, and what is shown of them, come from the index's own rows (tcl.search)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from tcl.index.description import Description
from tcl.index.faiss_engine import FaissEngine
from tcl.index.milvus_engine import MilvusEngine
from tcl.index.store import Store
from tcl.index.within import Within


@dataclass(frozen=True)
class Entries:
    """n images as an engine takes them."""

    ids: np.ndarray
    """int64 [n], ascending."""
    embeddings: np.ndarray
    """float32 [n, D]."""
    paths: list[str]
    taken: list[int | None]


@dataclass(frozen=True)
class Update:
    """What an engine is to know after it."""

    count: int
    """Of images, all together."""
    removed: np.ndarray
    """Ids that are no longer there."""
    pending: Callable[[], Iterator[Entries]]
    """Images that it does not know; some may be told again, after a stop."""
    all: Callable[[], Iterator[Entries]]


class Engine(Protocol):
    """Searches by inner product. An update that was stopped is repeated from its beginning."""

    def update(self, update: Update) -> None:
        """InputError: it cannot be written or reached."""

    def search(self, query: np.ndarray, k: int, within: Within | None) -> np.ndarray:
        """float32 [D] -> ids of the k nearest or of as many as there are, int64, best first. InputError: it cannot be
        read or reached."""

    def describe(self) -> str:
        """Which it is, and how it looks."""

    def close(self) -> None:
        """It is asked no more."""


def open_engine(folder: Path, description: Description, store: Store) -> Engine:
    """Nothing is looked up yet."""
    if description.engine == "milvus":
        return MilvusEngine(description.uri, description.collection, description.embed_dim)
    return FaissEngine(folder, store.rows, store.catalogue.ids_within)
