"""How well a model finds what it keeps of images and captions, with and without ITM, and what an item costs.

    python -m experiments.stored_embeddings --output_dir OUT --run RUN --val 'dev/*.tar' --storage opq --bytes 64 \
        --train 'train/*.tar' --similarity 0.5

Storages: fp32, fp16 and int8 (with a scale) of the embeddings; pq and opq, a byte for each of --bytes parts by faiss,
fitted to the embeddings of --train, images and captions; codes and coarse of a model with codes, all levels or the
first. Queries are never quantised. OUT/metrics.jsonl gets eval_bytes, eval_ms (a query among ROWS items in faiss, on
one thread), R@1, R@5 and R@10 in percent both ways (eval_i2t_r1), and the same of the CANDIDATES best ordered by ITM
(eval_rerank_i2t_r1; --similarity as in experiments.stored_matching).
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import faiss
import numpy as np
import torch

from experiments.recalls import CANDIDATES, recalls
from tcl import TCL, TCLForCompressedRetrieval, load_model
from tcl.commands.one_line import end_with_one_line
from tcl.data.sets.retrieval_set import RetrievalSet, load_retrieval_set
from tcl.errors import InputError
from tcl.index.embedding_rows import EmbeddingRows
from tcl.search.code_index import flat_index
from tcl.search.codes import checked_codes

MAX_PIXELS = 10**7
ROWS = 100_000
ASKED = 20
STORAGES = ("fp32", "fp16", "int8", "pq", "opq", "codes", "coarse")


@dataclass(frozen=True)
class Kept:
    """What a storage makes of embeddings."""

    queries: Callable[[np.ndarray], np.ndarray]
    """Embeddings float32 [n, D] -> what is compared with `restored`, [n, D']."""
    restored: Callable[[np.ndarray], np.ndarray]
    """Embeddings float32 [n, D] -> what is known of them afterwards, [n, D']."""
    index: Callable[[np.ndarray], faiss.Index]
    """Embeddings float32 [n, D] -> an index of faiss with them."""
    bytes: int
    """Of an item."""


def plain(storage: str, width: int) -> Kept:
    """fp32, fp16 or int8 of `width` numbers."""
    rows = EmbeddingRows(storage, width)
    kinds = {"fp16": faiss.ScalarQuantizer.QT_fp16, "int8": faiss.ScalarQuantizer.QT_8bit}

    def index(embeddings: np.ndarray) -> faiss.Index:
        inner = faiss.METRIC_INNER_PRODUCT
        made = (
            faiss.IndexScalarQuantizer(width, kinds[storage], inner) if storage in kinds else faiss.IndexFlatIP(width)
        )
        made.train(embeddings)
        made.add(embeddings)
        return made

    size = rows.dtype.itemsize - rows.dtype["hubness"].itemsize
    return Kept(lambda x: x, lambda x: rows.unpack(rows.pack(x, None)), index, size)


def fitted(name: str, training: np.ndarray) -> Kept:
    """A faiss index by the `name` of its factory, fitted to `training`, float32 [n, D]."""
    empty = faiss.index_factory(training.shape[1], name, faiss.METRIC_INNER_PRODUCT)
    empty.train(training)

    def index(embeddings: np.ndarray) -> faiss.Index:
        made = faiss.clone_index(empty)
        made.add(embeddings)
        return made

    return Kept(lambda x: x, lambda x: empty.sa_decode(empty.sa_encode(x)), index, empty.sa_code_size())


def coded(model: TCLForCompressedRetrieval, levels: int) -> Kept:
    """The first `levels` of a model's codes."""
    books = model.codebooks[:levels]

    def codes(embeddings: np.ndarray):
        return checked_codes(model.codes_of(embeddings)[:, :levels], torch.from_numpy(books))

    def queries(embeddings: np.ndarray) -> np.ndarray:
        part = embeddings.reshape(len(embeddings), len(model.codebooks), -1)[:, :levels].reshape(len(embeddings), -1)
        return part / np.linalg.norm(part, axis=1, keepdims=True)

    size = books.shape[0] * books.shape[1]
    return Kept(queries, lambda x: codes(x).decoded().numpy(), lambda x: flat_index(codes(x)), size)


def kept_by(model: TCL, storage: str, size: int, training: Callable[[], np.ndarray]) -> Kept:
    """size: bytes of pq and opq. training: what these are fitted to, made only for them.

    InputError: codes of a model that makes none.
    """
    if storage in ("pq", "opq"):
        rotation = f"OPQ{size}," if storage == "opq" else ""
        return fitted(f"{rotation}PQ{size}x8", training())
    if storage not in ("codes", "coarse"):
        return plain(storage, model.embed_dim)
    if not isinstance(model, TCLForCompressedRetrieval):
        raise InputError(f"storage: {storage} wants a run of --task compressed_retrieval; give one as --run")
    return coded(model, 1 if storage == "coarse" else len(model.codebooks))


def search_figures(model: TCL, pairs: RetrievalSet, kept: Kept, similarity: float) -> dict[str, float]:
    """Recalls both ways, each side kept in turn."""
    images, texts = model.embed_images(pairs.images), model.embed_texts(pairs.captions)
    found: dict[str, float] = {}
    for way, query, corpus, right in (
        ("i2t", images, texts, set(pairs.pairs)),
        ("t2i", texts, images, {(text, image) for image, text in pairs.pairs}),
    ):
        query = replace(query, features=np.ascontiguousarray(kept.queries(query.features), np.float32))
        corpus = replace(corpus, features=np.ascontiguousarray(kept.restored(corpus.features), np.float32))
        retrieved = model.retrieve(query, corpus, k=min(CANDIDATES, len(corpus.items)), candidates=CANDIDATES)
        scores = retrieved.match_scores + similarity / model.temperature * retrieved.similarities
        found |= {
            f"{way}_{name}": value for name, value in recalls(retrieved.ids, retrieved.similarities, right).items()
        }
        found |= {f"rerank_{way}_{name}": value for name, value in recalls(retrieved.ids, scores, right).items()}
    return found


def milliseconds(kept: Kept, embeddings: np.ndarray) -> float:
    """Of a query among ROWS items, which repeat `embeddings`, on one thread: the median of ASKED."""
    faiss.omp_set_num_threads(1)
    index = kept.index(np.resize(embeddings, (ROWS, embeddings.shape[1])))
    seconds = []
    for row in kept.queries(np.resize(embeddings, (ASKED, embeddings.shape[1]))):
        started = time.perf_counter()
        index.search(np.ascontiguousarray(row[None], np.float32), CANDIDATES)
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--run", required=True, help="a run, one of its checkpoints, or an export")
    parser.add_argument("--val", required=True, help="shards of held-out pairs")
    parser.add_argument("--train", required=True, help="shards of the pairs to which pq and opq are fitted")
    parser.add_argument("--storage", choices=STORAGES, required=True)
    parser.add_argument("--bytes", type=int, default=64, help="of pq and opq, a divisor of the embeddings' width")
    parser.add_argument("--similarity", type=float, default=0.0, help="weight of the embeddings' similarity beside ITM")
    parser.add_argument("--seed", type=int, default=0, help="draws nothing")
    given = parser.parse_args(arguments)
    model = load_model(given.run)

    def read(shards: str) -> RetrievalSet:
        return load_retrieval_set(shards, max_words=model.pretrained.max_words, max_pixels=MAX_PIXELS)

    def training() -> np.ndarray:
        pairs = read(given.train)
        return np.concatenate([model.encode_image(pairs.images), model.encode_text(pairs.captions)])

    pairs = read(given.val)
    kept = kept_by(model, given.storage, given.bytes, training)
    found = {"bytes": kept.bytes, "ms": milliseconds(kept, model.encode_text(pairs.captions))}
    found |= search_figures(model, pairs, kept, given.similarity)
    given.output_dir.mkdir(parents=True, exist_ok=True)
    row = {"step": 0} | {f"eval_{name}": value for name, value in found.items()}
    (given.output_dir / "metrics.jsonl").write_text(json.dumps(row) + "\n")


if __name__ == "__main__":
    end_with_one_line(main)
