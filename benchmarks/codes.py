"""Search in codes of 64 bytes: what an index of a million costs to build and to keep, and what a query costs.

    OMP_NUM_THREADS=1 python -m benchmarks.codes [--candidates '[1000000, 10000000]']

Synthetic: eight levels of eight parts of 32 numbers, 256 codewords each. Candidates gather around 4,000 centres, with
which each shares half of its codes; a query is what a candidate's codes stand for, and as much noise. The 10 best of
each are looked for by the tables in torch, one part after the other (the exact order), by faiss in all codes, and by
faiss in some of the lists that the coarse level makes. Bytes are those of the index in a file. Where codes and indexes
do not fit into free memory, a size is left out.
"""

import gc
import os
import time
from collections.abc import Callable

import faiss
import jsonargparse
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measure import save, slope
from benchmarks.sides import PeakMemory
from tcl.search.code_index import flat_index, list_index, search_index
from tcl.search.codes import Codes, checked_codes

LEVELS, PARTS, WORDS, WIDTH = 8, 8, 256, 32
CENTRES, BEST = 4000, 10
COPIES = 6
"""Of the codes, which a size has in memory at most: its own, an index and its file, lists that are sorted."""


def synthetic_codes(count: int) -> Codes:
    generator = torch.Generator().manual_seed(0)
    books = F.normalize(torch.randn(LEVELS, PARTS, WORDS, WIDTH, generator=generator), dim=-1)
    centres = torch.randint(WORDS, (CENTRES, LEVELS, PARTS), generator=generator).to(torch.uint8)
    codes = torch.empty(count, LEVELS, PARTS, dtype=torch.uint8)
    for some in codes.split(1 << 18):
        own = centres[torch.randint(CENTRES, (len(some),), generator=generator)]
        other = torch.randint(WORDS, own.shape, generator=generator).to(torch.uint8)
        some.copy_(torch.where(torch.rand(own.shape, generator=generator) < 0.5, own, other))
    return checked_codes(codes, books)


def queries_of(codes: Codes, count: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    chosen = torch.randint(len(codes), (count,), generator=generator)
    meant = Codes(codes.codes[chosen], codes.codebooks).decoded()
    return F.normalize(meant + F.normalize(torch.randn(meant.shape, generator=generator), dim=1), dim=1)


def built(build: Callable[[], object]) -> tuple[dict, object]:
    """Seconds, bytes more at most while it was built, bytes of the index; and the index."""
    gc.collect()
    memory, started = PeakMemory(), time.perf_counter()
    index = build()
    seconds, peak = time.perf_counter() - started, memory.bytes()
    return {"seconds": seconds, "peak": peak, "bytes": faiss.serialize_index(index).nbytes}, index


def searched(index, queries: np.ndarray, exact: np.ndarray, lists: int | None, repeats: int) -> dict:
    """Milliseconds a query, of rounds of all queries one by one, and the share of the exact best that is found."""
    rounds = []
    for _ in range(repeats):
        started = time.perf_counter()
        places = np.concatenate([search_index(index, query[None], BEST, lists)[1] for query in queries])
        rounds.append((time.perf_counter() - started) / len(queries) * 1e3)
    hits = [len(set(row) & set(right)) for row, right in zip(places, exact, strict=True)]
    return {"milliseconds": sorted(rounds), "recall": sum(hits) / exact.size}


def measure(count: int, queries: int, lists: int, looked: list[int], repeats: int) -> dict:
    """One size."""
    codes = synthetic_codes(count)
    asked = queries_of(codes, queries)
    started = time.perf_counter()
    exact = torch.cat([codes.scores(query[None]).topk(BEST).indices for query in asked]).numpy()
    tables = (time.perf_counter() - started) / queries * 1e3
    row = {"candidates": count, "bytes_each": codes.codes.shape[1], "tables": {"milliseconds": [tables]}}
    cost, index = built(lambda: flat_index(codes))
    row["flat"] = cost | searched(index, asked.numpy(), exact, None, repeats)
    del index
    cost, index = built(lambda: list_index(codes, LEVELS, lists))
    row["lists"] = cost | {"lists": lists}
    row["lists"]["looked"] = {
        str(some): searched(index, asked.numpy(), exact, some, repeats) for some in looked if some <= lists
    }
    return row


def main(
    candidates: list[int] = [1_000_000, 10_000_000],  # noqa: B006
    queries: int = 50,
    lists: int = 1024,
    looked: list[int] = [1, 8, 32, 128],  # noqa: B006
    repeats: int = 3,
) -> None:
    """candidates: how many, ascending. looked: at how many of the lists. repeats: rounds over all queries."""
    rows, left_out = [], []
    for count in candidates:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if COPIES * count * LEVELS * PARTS > free:
            left_out.append(count)
            print(f"{count:,} candidates left out: {free / 2**30:.1f} GiB are free", flush=True)
            continue
        rows.append(measure(count, queries, lists, looked, repeats))
        _print(rows[-1])
    result = {"threads": torch.get_num_threads(), "queries": queries, "rows": rows, "left_out": left_out}
    if len(rows) > 1:
        counts = [row["candidates"] for row in rows]
        median = [row["flat"]["milliseconds"][repeats // 2] for row in rows]
        result["slopes"] = {
            "query": slope(counts, median),
            "build": slope(counts, [row["flat"]["seconds"] for row in rows]),
            "bytes": slope(counts, [row["flat"]["bytes"] for row in rows]),
        }
        print("slopes, log-log: " + ", ".join(f"{name} {value:.2f}" for name, value in result["slopes"].items()))
    print(save("codes", result))


def _print(row: dict) -> None:
    kept = f"{row['candidates']:,} codes of {row['bytes_each']} bytes"
    print(f"{kept}: tables in torch {row['tables']['milliseconds'][0]:.1f} ms a query")
    sides = {"all": row["flat"]} | {
        f"{some} of {row['lists']['lists']} lists": found for some, found in row["lists"]["looked"].items()
    }
    for name, found in sides.items():
        milliseconds = found["milliseconds"]
        print(f"  {name:18s} {milliseconds[len(milliseconds) // 2]:8.2f} ms a query, recall {found['recall']:.3f}")
    for name in ("flat", "lists"):
        size, peak = (row[name][kind] / 2**20 for kind in ("bytes", "peak"))
        print(
            f"  {name}: built in {row[name]['seconds']:.1f} s, {size:.0f} MiB, {peak:.0f} at most meanwhile", flush=True
        )


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
