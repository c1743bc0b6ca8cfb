"""Indexes of many images that nobody has: embeddings in clusters, random tokens, a catalogue with names."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from tcl.index.build import tell_engine
from tcl.index.description import read_description
from tcl.index.engine import open_engine
from tcl.index.read_item import ReadItem
from tcl.index.stages import Stages
from tcl.index.store import Store
from tcl.index.write import Wanted, make_index

CLUSTERS, SPREAD = 1000, 0.7
PARTS, WORDS = 32, 256
"""Of codes: 32 bytes an embedding."""
AT_A_TIME = 50_000


class WithCodebooks(Stages):
    """The stages of a model whose embeddings are to be kept as codes; no model has these codebooks."""

    @property
    def codebooks(self) -> np.ndarray:
        """As Stages.codebooks: float32 [PARTS, WORDS, embed_dim / PARTS]."""
        size = self.model.embed_dim // PARTS
        words = torch.randn(PARTS, WORDS, size, generator=torch.Generator().manual_seed(0))
        return torch.nn.functional.normalize(words, dim=2).numpy()


def clustered(count: int, width: int, seed: int) -> np.ndarray:
    """float32 [count, width], rows of length 1 around CLUSTERS directions, the same for every seed."""
    centres = _unit(np.random.default_rng(0).normal(size=(CLUSTERS, width)))
    draw = np.random.default_rng(seed)
    noise = _unit(draw.normal(size=(count, width)))
    return _unit(centres[draw.integers(CLUSTERS, size=count)] + SPREAD * noise)


def _unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def make_synthetic(folder: Path, stages: Stages, count: int, wanted: Wanted, *, all_tokens: bool = True) -> None:
    """An index of `count` images, which its engine knows. all_tokens: written; else a file with nothing in it but its
    size, which takes no room on the disk."""
    make_index(folder, wanted, stages)
    store = Store(folder, read_description(folder), writable=True)
    for first in range(0, count, AT_A_TIME):
        rows = np.arange(first, min(first + AT_A_TIME, count))
        store.embeddings.write(rows, store.rows.pack(clustered(len(rows), stages.model.embed_dim, 1 + first), None))
        if store.tokens is not None:
            last = rows[-1:] if not all_tokens else rows
            store.tokens.write(last, _random_tokens(len(last), store.tokens.dtype, first))
        for some in np.array_split(rows, max(1, len(rows) // 1000)):
            items = [ReadItem("", width=640, height=480) for _ in some]
            store.catalogue.add(f"photos/{some[0]:09d}".encode(), items, some.tolist())
        store.commit()
    engine = open_engine(folder, store.description, store)
    tell_engine(store, engine)
    engine.close()
    store.close()


def _random_tokens(count: int, dtype: np.dtype, seed: int) -> np.ndarray:
    rows = np.frombuffer(np.random.default_rng(seed).bytes(count * dtype.itemsize), dtype).copy()
    rows["scales"] = 0.02
    return rows


def embeddings_of(store: Store) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(ids, embeddings) of all images, some at a time."""
    items = [(item.id, item.row) for item in store.catalogue.items()]
    for start in range(0, len(items), AT_A_TIME):
        ids, rows = np.array(items[start : start + AT_A_TIME]).T
        yield ids, store.read_embeddings(rows)[0]
