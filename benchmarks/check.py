"""Has a change cost speed? A quick run of the comparisons against ratios that were saved before it.

    python -m benchmarks.check [--save]

Takes under 3 minutes on two slow cores. Compares ratios, which say the same on a busy machine, never seconds. Ends with
status 1 and a line for each ratio that lost more than a fifth.

Where both sides compute in fp32 a ratio holds on all machines of a kind (within 5 %, on two that were compared). Where
ours computes in bf16 it holds for one machine: two of the same kind gave 8.4 and 6.2. Such a row is judged by what was
saved on the same processor where it multiplies bf16 as fast as then; else a line says that nothing can be told of it.
--save, before a change, writes what was found as what to compare with here,
benchmarks/results/<device>-<processor>-quick.json.
"""

import argparse
import hashlib
import json
import platform
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch

from benchmarks import losses, retrieval, vqa
from benchmarks.loader import our_batches, plain_batches, use_one_core
from benchmarks.measure import RESULTS, device, device_name, interleaved, machine, ratio
from benchmarks.photographs import photographs, write_shards
from benchmarks.pretraining_models import Size
from benchmarks.sides import Sides
from benchmarks.training_sides import ours_default, ours_fp32, textbook_fp32
from benchmarks.training_step import measure
from tcl.precision import multiplies_bf16_fast

KEPT = 0.8
"""Share of a saved ratio that must be left."""
IN_BF16 = ("training step, default", "retrieval, default")
"""Rows of which one side is in bf16, where the hardware has it."""
SAME_GAIN = 0.15
"""Of how much the gain of bf16 may differ between two runs on what is called one machine."""


@dataclass
class Baseline:
    """What was saved before."""

    path: Path
    ratios: dict[str, float]
    gain: float | None
    """`bf16_gain` of then; None: it was saved on another processor, or nobody knows on which."""


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


def find_baseline(folder: Path) -> Baseline | None:
    """The one of this processor, or else the newest of its kind; None: there is none."""
    own = folder / f"{device_name()}-{processor()}-quick.json"
    if own.is_file():
        said = json.loads(own.read_text())
        return Baseline(own, said["ratios"], said["bf16_gain"])
    of_kind = [(path, json.loads(path.read_text())) for path in sorted(folder.glob(f"{device_name()}-*quick.json"))]
    if not of_kind:
        return None
    path, said = max(of_kind, key=lambda one: one[1].get("date", ""))
    return Baseline(path, said["ratios"], None)


def processor() -> str:
    """Eight digits for the processor's name, model and instructions, or the GPU's name."""
    if torch.cuda.is_available():
        facts = [torch.cuda.get_device_name()]
    else:
        facts = [platform.processor(), *_cpu_facts(Path("/proc/cpuinfo"))]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]


def _cpu_facts(cpuinfo: Path) -> list[str]:
    """Of the first processor; none where the system does not tell."""
    told = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features")
    first = cpuinfo.read_text().split("\n\n")[0].splitlines() if cpuinfo.is_file() else []
    return sorted(line for line in first if line.partition(":")[0].strip() in told)


def bf16_gain() -> float:
    """How many times as fast a product of two matrices is in bf16 as in fp32, here and now."""
    wide = torch.randn(1024, 1024, device=device())
    narrow = wide.bfloat16()
    wide @ wide, narrow @ narrow  # the first ones take longer
    products = {"fp32": lambda: [wide @ wide for _ in range(4)], "bf16": lambda: [narrow @ narrow for _ in range(4)]}
    seconds = interleaved(products, repeats=15)
    return min(seconds["fp32"]) / min(seconds["bf16"])  # the least disturbed of each


def untold(baseline: Baseline, gain: float) -> dict[str, str]:
    """Why nothing can be told of a row, by its name."""
    if baseline.gain is None:
        why = "is not known to be of this processor"
    elif abs(gain / baseline.gain - 1) > SAME_GAIN:
        why = f"was saved where bf16 was {baseline.gain:.1f} times as fast as fp32, here it is {gain:.1f}"
    else:
        return {}
    return dict.fromkeys(IN_BF16, why)


def lost(saved: dict[str, float], found: dict[str, float]) -> list[str]:
    """A line for each saved ratio of which less than KEPT is left, or which was not found."""
    lines = []
    for name, before in saved.items():
        now = found.get(name, 0.0)
        if now < KEPT * before:
            lines.append(f"{name}: {now:.2f} times as fast as the textbook, was {before:.2f}")
    return lines


def compare(baseline: Baseline, found: dict[str, float], gain: float | None) -> int:
    """Print what is left of each ratio; the exit status. gain: None where nothing is computed in bf16."""
    dark = {} if gain is None else untold(baseline, gain)
    for name, value in found.items():
        before = "" if name in dark or name not in baseline.ratios else f", was {baseline.ratios[name]:.2f}"
        print(f"{name:26s} {value:6.2f} times as fast as the textbook{before}")
    for why in set(dark.values()):
        print(
            f"check: nothing can be told of {'; '.join(dark)}: {baseline.path} {why}; --save makes one, before a change"
        )
    worse = lost({name: before for name, before in baseline.ratios.items() if name not in dark}, found)
    for line in worse:
        print(f"check: lost more than a fifth: {line}", file=sys.stderr)
    return 1 if worse else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="what is found becomes what to compare with")
    save = parser.parse_args().save
    baseline = find_baseline(RESULTS)
    if not save and baseline is None:
        print(
            f"check: {RESULTS} has nothing of a {device_name()} to compare with; make it with --save", file=sys.stderr
        )
        return 2
    gain = bf16_gain() if multiplies_bf16_fast(device()) else None
    found = quick_ratios()
    if not save:
        return compare(baseline, found, gain)
    path = RESULTS / f"{device_name()}-{processor()}-quick.json"
    said = {"machine": machine(), "date": str(date.today()), "bf16_gain": gain, "ratios": found}
    path.write_text(json.dumps(said, indent=1) + "\n")
    for name, value in found.items():
        print(f"{name:26s} {value:6.2f} times as fast as the textbook")
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
