"""What every benchmark does alike: run both sides in turn, take medians, print a table, leave a JSON file."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import torch

from tcl.precision import multiplies_bf16_fast

RESULTS = Path("benchmarks/results")


def interleaved(sides: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each side in each of `repeats` rounds; a round runs every side once, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, run in sides.items():
            started = time.perf_counter()
            run()
            synchronise()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> dict[str, float]:
    """How many times as fast `fast` is: median over the rounds, with the smallest and largest."""
    ratios = [a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)]
    return {"median": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}


def print_sides(seconds: dict[str, list[float]], ratios: dict[str, dict[str, float]]) -> None:
    """A line for each side: median seconds and how many times as fast it is, from `ratio`."""
    for name, values in seconds.items():
        speed = ratios[name]
        times = f"{speed['median']:5.2f}x ({speed['least']:.2f} to {speed['most']:.2f})"
        print(f"  {name:13s} {statistics.median(values):8.3f} s  {times}", flush=True)


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Of the straight line through (log size, log value): 1 grows in proportion, 2 with the square."""
    x, y = torch.tensor(sizes, dtype=torch.float64).log(), torch.tensor(values, dtype=torch.float64).log()
    return float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())


def device() -> torch.device:
    """What the benchmarks run on: a GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronise() -> None:
    """Wait until the GPU, where there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def device_name() -> str:
    """Of the GPU, or what the CPU can do, as part of a file's name."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name().replace(" ", "_")
    bf16 = "_bf16" if multiplies_bf16_fast(torch.device("cpu")) else ""
    return f"{platform.machine()}_CPU{bf16}"


def resident_mib(process: int | str = "self") -> float:
    """Memory of a process, by its id or "self", that is in RAM, MiB (Linux)."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def machine() -> dict[str, object]:
    """Where and with what a result was measured."""
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    return {"device": device_name(), "threads": torch.get_num_threads(), "cores": os.cpu_count()} | versions


def save(name: str, result: dict) -> Path:
    """Write benchmarks/results/<device>-<date>-<name>.json, with the machine."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{device_name()}-{date.today()}-{name}.json"
    path.write_text(json.dumps({"machine": machine(), **result}, indent=1) + "\n")
    return path
