"""What a query costs in an index of a million images and of ten million, indexing, and faiss beside Milvus.

    OMP_NUM_THREADS=1 python -m benchmarks.search [--images '[1000000]' --codes '[10000000]' --folder DIR]

A random ViT-S/16 at 224 pixels with a BERT of its width, six fusion layers; 64 candidates matched from 16 int8 tokens
each. Rows are synthetic, embeddings in clusters. A query is timed in a process of its own, whose resident memory is
told: the text, the search, the tokens and the match, as `Index.search` does them, beside encoding and matching the 64
images themselves. Of --codes the tokens are a file of that size with nothing in it. Indexing generated photographs is
timed beside the encoder alone, in turn. faiss and milvus-lite answer the same queries on the same embeddings.
"""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import jsonargparse
import numpy as np
import torch

from benchmarks.measure import interleaved, ratio, resident_mib, save
from benchmarks.photographs import photographs
from benchmarks.random_model import random_model
from benchmarks.sides import Side, Sides
from benchmarks.synthetic_index import WithCodebooks, clustered, embeddings_of, make_synthetic
from tcl import TCL
from tcl.index.index import Index
from tcl.index.share import Share
from tcl.index.stages import Stages
from tcl.index.store import TokensAt
from tcl.index.write import Wanted, write_index

CANDIDATES, TEXT_WORDS, RECALL_QUERIES = 64, 10, 50
IMAGE_TOKENS = 16
BATCH = 32


@dataclass
class Options:
    """What a process that asks is built from."""

    repeats: int = 10


def load(codes: bool) -> Stages:
    """The same random weights at every call."""
    model = TCL(random_model(IMAGE_TOKENS), device="cpu", batch_size=BATCH)
    return (WithCodebooks if codes else Stages)(model, "a random ViT-S")


def texts(count: int) -> list[str]:
    """Of words that the random model knows."""
    words = np.random.default_rng(0).integers(1000, 20_000, (count, TEXT_WORDS))
    return [" ".join(map(str, row)) for row in words]


def query_side(options: Options) -> Side:
    def side(command: str) -> dict:
        folder, codes = Path(command), "codes" in Path(command).name
        with Index(folder, load(codes)) as index:
            asked = texts(options.repeats + 1)
            index.search(asked[0], rerank=CANDIDATES)
            parts = [_parts(index, text) for text in asked[1:]]
            row = {name: [part[name] for part in parts] for name in parts[0]}
            row["resident_mib"] = resident_mib()
            row["from_images"] = [_from_images(index, asked[0]) for _ in range(3)]
            row["recall"] = _recall(index)
        return row

    return side


SIDES = {"query": query_side}


def _parts(index: Index, text: str) -> dict[str, float]:
    """Seconds of a query, and of what it consists of; to match is to read, too."""
    started = time.perf_counter()
    index.search(text, rerank=CANDIDATES)
    whole = time.perf_counter() - started
    started = time.perf_counter()
    query = index.stages.embed_texts([text])[0]
    embedded = time.perf_counter()
    ids = index._engine.search(query, CANDIDATES, None)
    searched = time.perf_counter()
    rows = np.array([item.row for item in index._store.catalogue.items(ids)])
    index._store.read_tokens(rows)
    read = time.perf_counter()
    images = torch.arange(len(rows))
    index.stages.match(TokensAt(index._store, rows), images, [text], torch.zeros_like(images))
    matched = time.perf_counter()
    return {
        "query": whole,
        "text": embedded - started,
        "search": searched - embedded,
        "read": read - searched,
        "match": matched - read,
    }


def _from_images(index: Index, text: str) -> float:
    """Seconds of matching the candidates from their pixels, which are decoded already."""
    model = index.stages.model
    size = model.pretrained.model.image.image_size
    pixels = torch.zeros(BATCH, 3, size, size)
    started = time.perf_counter()
    states = model.read_texts([text])
    batches = (model.image_tokens(pixels) for _ in range(CANDIDATES // BATCH))
    with torch.no_grad(), model.hardware.autocast():
        for _ in model.match_tokens(batches, states, [torch.zeros(1, dtype=torch.long)] * CANDIDATES):
            pass
    return time.perf_counter() - started


def _recall(index: Index) -> float:
    """Share of the nearest CANDIDATES that the engine finds, of queries like the images."""
    queries = clustered(RECALL_QUERIES, index.stages.model.embed_dim, 10**9)
    best_ids, best = np.empty((RECALL_QUERIES, 0), np.int64), np.empty((RECALL_QUERIES, 0), np.float32)
    for ids, embeddings in embeddings_of(index._store):
        best = np.concatenate([best, queries @ embeddings.T], axis=1)
        best_ids = np.concatenate([best_ids, np.broadcast_to(ids, (RECALL_QUERIES, len(ids)))], axis=1)
        order = np.argsort(-best, axis=1)[:, :CANDIDATES]
        best, best_ids = np.take_along_axis(best, order, 1), np.take_along_axis(best_ids, order, 1)
    found = [index._engine.search(query, CANDIDATES, None) for query in queries]
    return float(np.mean([np.isin(right, own).mean() for right, own in zip(best_ids, found, strict=True)]))


def ask(folder: Path | None, count: int, codes: bool, options: Options) -> dict:
    """A row of the table: an index is made, asked, and removed with its folder."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        index = Path(place) / ("codes" if codes else "int8")
        wanted = Wanted(embeddings="codes" if codes else "int8")
        started = time.perf_counter()
        make_synthetic(index, load(codes), count, wanted, all_tokens=not codes)
        row = {"images": count, "embeddings": wanted.embeddings, "made_seconds": time.perf_counter() - started}
        with Sides(SIDES, options) as sides:
            row |= sides.ask("query", str(index))
        row["bytes_of_embeddings"] = sum((index / name).stat().st_size for name in ("embeddings.rows", "faiss.index"))
    row["times_as_fast_as_from_images"] = statistics.median(row["from_images"]) / statistics.median(row["query"])
    return row


def indexing(folder: Path | None, count: int, rounds: int, workers: int) -> dict:
    """Images a second of `tcl index` and of the encoder alone, in turn, and the bytes that it leaves of an image."""
    stages = load(codes=False)
    size = stages.model.pretrained.model.image.image_size
    pixels = (torch.randn(BATCH, 3, size, size),)
    stages.encode("image", pixels, tokens=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        images = Path(place) / "photos"
        images.mkdir()
        for i, jpeg in enumerate(photographs(None, count)):
            (images / f"{i:06d}.jpg").write_bytes(jpeg)
        rates: dict[str, list[float]] = {"encoder": [], "index": []}
        for number in range(rounds):
            started = time.perf_counter()
            for _ in range(count // BATCH):
                stages.encode("image", pixels, tokens=True)
            rates["encoder"].append(count // BATCH * BATCH / (time.perf_counter() - started))
            index = Path(place) / f"index{number}"
            built, info = write_index(index, Wanted(images=str(images)), stages, Share(), workers=workers)
            rates["index"].append(built.encoded / built.seconds)
    return {"images": count, "rates": rates, "bytes_of_an_image": info["bytes"] / count} | {
        "share": ratio(rates, "index", "encoder")
    }


def engines(folder: Path | None, count: int, repeats: int) -> dict:
    """Seconds of a search without matching by either engine, and how many answers were the same."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        stages = load(codes=False)
        opened, made = {}, {}
        for engine, uri in (("faiss", None), ("milvus", f"{place}/vectors.db")):
            started = time.perf_counter()
            wanted = Wanted(embeddings="fp32", tokens="none", engine=engine, uri=uri)
            make_synthetic(Path(place) / engine, stages, count, wanted)
            made[engine] = time.perf_counter() - started
            opened[engine] = Index(Path(place) / engine, stages)
        queries = clustered(repeats, stages.model.embed_dim, 10**9)
        answers = {name: [index._engine.search(q, CANDIDATES, None) for q in queries] for name, index in opened.items()}
        same = [np.array_equal(np.sort(a), np.sort(b)) for a, b in zip(*answers.values(), strict=True)]
        sides = {
            name: lambda index=index: index._engine.search(queries[0], CANDIDATES, None)
            for name, index in opened.items()
        }
        seconds = interleaved(sides, repeats)
        for index in opened.values():
            index.close()
    return {"images": count, "made_seconds": made, "seconds": seconds, "same": f"{sum(same)} of {len(same)}"}


def main(
    images: list[int] = [1_000_000],  # noqa: B006
    codes: list[int] = [10_000_000],  # noqa: B006
    photos: int = 512,
    compared: int = 100_000,
    repeats: int = 10,
    rounds: int = 3,
    workers: int = 1,
    folder: Path | None = None,
) -> None:
    """images: how many, int8 embeddings; codes: how many, as codes; photos: that are indexed, 0 for none; compared: in
    both engines, 0 for none; workers: that decode; folder: with room for 7 GB a million images; None: that of
    temporary files."""
    options = Options(repeats)
    rows = [ask(folder, count, False, options) for count in images]
    rows += [ask(folder, count, True, options) for count in codes]
    for row in rows:
        _print(row)
    result: dict = {"repeats": repeats, "rows": rows}
    if photos:
        result["indexing"] = indexing(folder, photos, rounds, workers)
        of = result["indexing"]
        print(
            f"indexing: {statistics.median(of['rates']['index']):.1f} images/s, the encoder alone "
            f"{statistics.median(of['rates']['encoder']):.1f}; {of['bytes_of_an_image']:,.0f} bytes an image"
        )
    if compared:
        result["engines"] = engines(folder, compared, repeats)
        of = result["engines"]
        for name, seconds in of["seconds"].items():
            made = of["made_seconds"][name]
            print(f"{name}: {1000 * statistics.median(seconds):.2f} ms a search in {compared:,}, made in {made:.1f} s")
        print(f"the same answers: {of['same']}")
    print(save("search", result))


def _print(row: dict) -> None:
    milliseconds = {
        name: 1000 * statistics.median(row[name])
        for name in ("query", "text", "search", "read", "match", "from_images")
    }
    said = "  ".join(f"{name} {value:.1f} ms" for name, value in milliseconds.items())
    print(
        f"{row['images']:,} {row['embeddings']}: {said}  {row['times_as_fast_as_from_images']:.1f} times as fast  "
        f"{row['resident_mib']:.0f} MiB  recall {row['recall']:.3f}",
        flush=True,
    )


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
