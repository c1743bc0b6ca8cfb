"""Hubness of a million candidates from a bank of stored queries, against the textbook's matrix, and what a query costs.

    OMP_NUM_THREADS=1 python -m benchmarks.hubness [--candidates '[100000, 1000000]' --bank 10000]

Random unit vectors of 256 numbers, temperature 0.05, inverted softmax and one round of Sinkhorn. The textbook makes the
matrix of bank x candidates and takes torch.logsumexp of it; where that matrix, its scaled copy and its exponentials do
not fit, it is left out. A search for the 16 best of each of 256 queries is timed as it is and re-scored.
"""

import gc
import time
from dataclasses import asdict, dataclass

import jsonargparse
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.measure import device, interleaved, ratio, save
from benchmarks.sides import PeakMemory, Side, Sides
from tcl.search.hubness import hubness
from tcl.search.rescorings import by_stored
from tcl.search.two_stage import Search, search

EMBED_DIM, TEMPERATURE, QUERIES, BEST = 256, 0.05, 256, 16
METHODS = ("inverted_softmax", "sinkhorn")
COPIES = 3
"""Of the matrix that the textbook has at a time."""


@dataclass
class Options:
    """What a side is built from."""

    bank: int = 10_000


def unit_rows(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, EMBED_DIM, generator=generator), dim=1).to(device())


def our_hubness(bank: Tensor, candidates: Tensor, method: str) -> Tensor:
    return hubness(bank, candidates, method, TEMPERATURE, iterations=1)


def textbook_hubness(bank: Tensor, candidates: Tensor, method: str) -> Tensor:
    scaled = bank @ candidates.T / TEMPERATURE
    if method == "sinkhorn":
        scaled = scaled - torch.logsumexp(scaled, dim=1, keepdim=True)
    return TEMPERATURE * torch.logsumexp(scaled, dim=0)


def our_side(options: Options) -> Side:
    return _side(our_hubness, options)


def textbook_side(options: Options) -> Side:
    return _side(textbook_hubness, options)


SIDES = {"textbook": textbook_side, "ours": our_side}


def _side(find, options: Options) -> Side:
    bank = unit_rows(options.bank, 0)

    def side(command: str) -> tuple[float, int, Tensor]:
        method, count = command.split()
        candidates = unit_rows(int(count), 1)
        gc.collect()
        memory, started = PeakMemory(), time.perf_counter()
        found = find(bank, candidates, method)
        return time.perf_counter() - started, memory.bytes(), (found - found.mean())[:1000].cpu()

    return side


def compare(sides: Sides, method: str, count: int, textbook: bool) -> dict:
    """A row: seconds and bytes of each side, and how far their results are apart. textbook: it fits."""
    row = {"method": method, "candidates": count}
    found = {}
    for name in SIDES if textbook else ("ours",):
        seconds, peak, found[name] = sides.ask(name, f"{method} {count}")
        row[name] = {"seconds": seconds, "bytes": peak}
    if textbook:
        row["difference"] = (found["ours"] - found["textbook"]).abs().max().item()
    return row


def query_cost(count: int, repeats: int) -> dict[str, float]:
    """How many times as long a search in `count` candidates takes when it is re-scored by stored hubness."""
    queries, candidates = unit_rows(QUERIES, 2), unit_rows(count, 1)
    stored = by_stored(hubness(unit_rows(100, 0), candidates, "inverted_softmax", TEMPERATURE))
    sides = {
        "plain": lambda: search([Search(queries, candidates)], BEST),
        "rescored": lambda: search([Search(queries, candidates, rescore=stored)], BEST),
    }
    interleaved(sides, 1)
    return ratio(interleaved(sides, repeats), "rescored", "plain")


def main(candidates: list[int] = [100_000, 1_000_000], bank: int = 10_000, repeats: int = 5) -> None:  # noqa: B006
    """candidates: how many, ascending. repeats: of the search."""
    room = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 14 * 2**30
    rows = []
    with Sides(SIDES, Options(bank)) as sides:
        for count in candidates:
            for method in METHODS:
                rows.append(compare(sides, method, count, COPIES * 4 * bank * count < room))
                _print(rows[-1])
    cost = query_cost(min(candidates), repeats)
    print(f"a re-scored query: {cost['median']:.3f} times a plain one ({cost['least']:.3f} to {cost['most']:.3f})")
    result = {"options": asdict(Options(bank)), "threads": torch.get_num_threads(), "rows": rows, "query": cost}
    print(save("hubness", result))


def _print(row: dict) -> None:
    line = f"{row['method']:16s} C {row['candidates']:9,d}"
    for name in SIDES:
        if name in row:
            line += f"  {name} {row[name]['seconds']:7.2f} s {row[name]['bytes'] / 2**20:7.0f} MiB"
    if "difference" in row:
        line += f"  same to {row['difference']:.1e}"
    print(line, flush=True)


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_function_arguments(main)
    main(**vars(parser.parse_args()))
