"""Embeddings of more images, clips, sounds or texts than fit into memory: only their vectors are kept."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
from torch import Tensor
from tqdm import tqdm

from tcl.data.feed.file_stream import FileBatch
from tcl.data.shards.bad_sample import Skipped
from tcl.data.texts.read_texts import CleanText
from tcl.data.texts.sample_texts import EMPTY_CAPTION
from tcl.shown import QUIET_SECONDS

TEXTS_AT_A_TIME = 4096
"""Enough to sort them by length and fill whole forward passes."""


Keep = Callable[[np.ndarray], np.ndarray]


def whole(embeddings: np.ndarray) -> np.ndarray:
    """Of embeddings, all."""
    return embeddings


@dataclass(frozen=True)
class EmbeddedStream:
    """n images, clips, sounds or texts with their embeddings, and those that were skipped."""

    ids: list[str]
    """[n]"""
    embeddings: np.ndarray
    """float32 [n, embed_dim], rows of length 1; or what was kept of them."""
    skipped: list[Skipped]
    hubness: np.ndarray | None = None
    """float32 [n], to subtract from cosines with each; None: there is no bank of queries."""


class ReadsTexts(Protocol):
    """As `tcl.inference.embedding_model.EmbeddingModel` says."""

    @property
    def embed_dim(self) -> int: ...

    def embed_cleaned(self, texts: Sequence[str]) -> tuple[np.ndarray, list[bool]]: ...


def embed_file_stream(
    embed: Callable[[tuple[Tensor, ...]], np.ndarray],
    embed_dim: int,
    batches: Iterable[FileBatch],
    what: str,
    keep: Keep = whole,
) -> EmbeddedStream:
    """In the order of the files' places, whatever that of the batches is. embed: inputs of a batch -> [b, embed_dim];
    what: a word for the progress bar; keep: what of embeddings [b, D]."""
    ids, places, rows, skipped = [], [], [], []
    with tqdm(desc=what, unit="", leave=False, delay=QUIET_SECONDS, disable=None) as bar:
        for batch in batches:
            skipped += batch.skipped
            bar.update(len(batch.ids) + len(batch.skipped))
            if not batch.ids:
                continue
            rows.append(keep(embed(batch.inputs)))
            ids += batch.ids
            places += batch.places
    order = sorted(range(len(ids)), key=places.__getitem__)
    return EmbeddedStream([ids[i] for i in order], _stack(embed_dim, rows, order, keep), skipped)


def embed_text_stream(model: ReadsTexts, texts: Iterable[CleanText], keep: Keep = whole) -> EmbeddedStream:
    """In the order of the texts; what is longer than the model reads is cut. keep: as of files."""
    ids, rows, skipped = [], [], []
    with tqdm(desc="texts", unit="", leave=False, delay=QUIET_SECONDS, disable=None) as bar:
        for some in _chunks(texts):
            bar.update(len(some))
            skipped += [Skipped(text.id, text.problem) for text in some if text.problem is not None]
            good = [text for text in some if text.problem is None]
            if not good:
                continue
            features, read = model.embed_cleaned([text.text for text in good])
            skipped += [
                Skipped(text.id, EMPTY_CAPTION) for text, any_token in zip(good, read, strict=True) if not any_token
            ]
            rows.append(keep(features))
            ids += [text.id for text, any_token in zip(good, read, strict=True) if any_token]
    return EmbeddedStream(ids, _stack(model.embed_dim, rows, range(len(ids)), keep), skipped)


def _chunks(texts: Iterable[CleanText]) -> Iterator[list[CleanText]]:
    texts = iter(texts)
    while some := list(islice(texts, TEXTS_AT_A_TIME)):
        yield some


def _stack(embed_dim: int, rows: list[np.ndarray], order: Iterable[int], keep: Keep) -> np.ndarray:
    """`rows` [b, ...] one below the other, in `order`."""
    if not rows:
        return keep(np.empty((0, embed_dim), np.float32))
    return np.concatenate(rows)[np.fromiter(order, int)]
