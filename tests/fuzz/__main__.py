"""python -m tests.fuzz [--inputs 400] [--seed 0] [--only shards,images] [--case 17]

The inputs depend on the seed, the kind and the number of the case alone. Ends with status 1 where anything was found,
and with the command that shows it again; the input stays in --keep.
"""

import argparse
import importlib
import shutil
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import torch

from tests.fuzz.case import run_cases

KINDS = ("shards", "images", "media", "texts", "annotations", "configurations", "runs", "exports")
"""Files of this folder: prepare(folder) -> good inputs; mutate(good, rng, folder); read(good, folder)."""


AT_ONCE = 16
"""Cases in one process."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=400, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(KINDS), help="kinds, separated by commas")
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--keep", type=Path, help="folder for inputs that something is wrong with")
    given = parser.parse_args()
    torch.set_num_threads(1)  # a fork has none of its parent's threads, and would wait for them
    kinds = given.only.split(",")
    keep = given.keep or Path(tempfile.mkdtemp(prefix="fuzz_"))
    keep.mkdir(parents=True, exist_ok=True)
    cases = range(given.inputs) if given.case is None else range(given.case, given.case + 1)
    wrong = sum(fuzz(kind, given.seed, cases, keep) for kind in kinds)
    print(f"{wrong} wrong; their inputs are in {keep}" if wrong else "nothing wrong")
    return 1 if wrong else 0


def fuzz(kind: str, seed: int, cases: range, keep: Path) -> int:
    """The cases of these numbers of one kind; returns how many went wrong."""
    module = importlib.import_module(f"tests.fuzz.{kind}")
    with tempfile.TemporaryDirectory() as home:
        good = module.prepare(Path(home))
        read = partial(module.read, good)
        wrong = 0
        for start in range(0, len(cases), AT_ONCE):
            numbers = cases[start : start + AT_ONCE]
            folders = [_write(module.mutate, good, seed, kind, number, Path(home)) for number in numbers]
            if run_cases(read, folders) is not None:  # which of them it was, each tells alone
                wrong += sum(_report(run_cases(read, [folder]), folder, seed, keep) for folder in folders)
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
    print(f"{kind}: {len(cases):,} inputs, {wrong} wrong", flush=True)
    return wrong


def _write(mutate: Callable, good: object, seed: int, kind: str, number: int, home: Path) -> Path:
    folder = home / f"{kind}_{number}"
    folder.mkdir()
    mutate(good, Random(f"{seed} {kind} {number}"), folder)
    return folder


def _report(said: str | None, folder: Path, seed: int, keep: Path) -> bool:
    if said is None:
        return False
    kind, number = folder.name.split("_")
    print(f"{kind} {number}: {said.strip()}")
    print(f"    again: python -m tests.fuzz --seed {seed} --only {kind} --case {number}", flush=True)
    shutil.move(folder, keep / f"{seed}_{folder.name}")
    return True


if __name__ == "__main__":
    sys.exit(main())
