"""Has a change cost speed? A quick run of the comparisons against the ratios committed for this machine.

    python -m benchmarks.check [--save]

Takes under 3 minutes on two slow cores. Compares ratios, which say the same on a busy machine, never seconds. Ends with
status 1 and a line for each ratio that lost more than a fifth. --save writes what it found as what to compare with,
benchmarks/results/<device>-quick.json.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks import losses, retrieval, vqa
from benchmarks.loader import our_batches, plain_batches, use_one_core
from benchmarks.measure import RESULTS, device_name, interleaved, machine, ratio
from benchmarks.photographs import photographs, write_shards
from benchmarks.pretraining_models import Size
from benchmarks.sides import Sides
from benchmarks.training_sides import ours_default, ours_fp32, textbook_fp32
from benchmarks.training_step import measure

KEPT = 0.8
"""Share of a committed ratio that must be left."""


def quick_ratios() -> dict[str, float]:
    """How many times as fast as its textbook side each thing is."""
    found = {}
    sides = {"textbook": textbook_fp32, "fp32": ours_fp32, "default": ours_default}
    step = measure(Size("Ti", 8), sides, repeats=5)
    for name in ("fp32", "default"):
        found[f"training step, {name}"] = step[name]["ratio"]["median"]
    with Sides(losses.SIDES, losses.Options()) as running:
        for which in losses.LOSSES:
            found[f"losses, {which}"] = losses.compare(running, which, 256, repeats=3)["ratio"]["median"]
    ranked = retrieval.measure(retrieval.Options(images=20, captions=60, k=16), repeats=3)
    for name in ("fp32", "default"):
        found[f"retrieval, {name}"] = ranked["ratios"][name]["median"]
    found["answers"] = vqa.measure(vqa.Options(questions=4), repeats=3)["ratios"]["ours"]["median"]
    found["loader"] = _loader()
    return found


def _loader() -> float:
    use_one_core()
    with tempfile.TemporaryDirectory() as folder:
        urls = write_shards(Path(folder), photographs(None, count=30), 100, shards=2)
        sides = {
            "plain": lambda: [None for _ in plain_batches(urls)],
            "ours": lambda: [None for _ in our_batches(urls)],
        }
        return ratio(interleaved(sides, repeats=4), "plain", "ours")["median"]


def lost(committed: dict[str, float], found: dict[str, float]) -> list[str]:
    """A line for each committed ratio of which less than KEPT is left, or which was not found."""
    lines = []
    for name, before in committed.items():
        now = found.get(name, 0.0)
        if now < KEPT * before:
            lines.append(f"{name}: {now:.2f} times as fast as the textbook, was {before:.2f}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="what is found becomes what to compare with")
    path = RESULTS / f"{device_name()}-quick.json"
    save = parser.parse_args().save
    if not save and not path.is_file():
        print(f"check: there is no {path} to compare with; make it with --save", file=sys.stderr)
        return 2
    found = quick_ratios()
    committed = {} if save else json.loads(path.read_text())["ratios"]
    for name, value in found.items():
        before = f", was {committed[name]:.2f}" if name in committed else ""
        print(f"{name:26s} {value:6.2f} times as fast as the textbook{before}")
    if save:
        path.write_text(json.dumps({"machine": machine(), "ratios": found}, indent=1) + "\n")
        print(path)
    worse = lost(committed, found)
    for line in worse:
        print(f"check: lost more than a fifth: {line}", file=sys.stderr)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
