"""The performance section of README.md, from the newest of the files in benchmarks/results and from nothing else.

    python -m benchmarks.report [--write]

Prints it; --write puts it between the two comments in README.md. A test compares README with what this prints.
"""

import argparse
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import RESULTS

BEGIN, END = "<!-- python -m benchmarks.report -->", "<!-- end of the report -->"
README = Path("README.md")
RESULT = re.compile(r"(?P<device>.+)-(?P<date>\d{4}-\d\d-\d\d)-(?P<name>.+)\.json")
NO_GPU = "No GPU was at hand: its rows (`make bench` runs the same benchmarks on one) are still to be measured."


def newest_results(folder: Path = RESULTS) -> dict[str, dict[str, dict]]:
    """Results by device and name, of the last date each; `date` is added to each."""
    found: dict[str, dict[str, dict]] = {}
    for path in sorted(folder.glob("*.json")):
        if match := RESULT.fullmatch(path.name):
            of_device = found.setdefault(match["device"], {})
            if match["date"] >= of_device.get(match["name"], {"date": ""})["date"]:
                of_device[match["name"]] = json.loads(path.read_text()) | {"date": match["date"]}
    return found


def render(results: dict[str, dict[str, dict]]) -> str:
    """Markdown: a table for each device."""
    parts = []
    for device, by_name in results.items():
        rows = [row for name, result in by_name.items() for row in _rows(name, result)]
        if not rows:
            continue
        machine = next(iter(by_name.values()))["machine"]
        dates = sorted({result["date"] for result in by_name.values()})
        parts.append(
            f"{device.replace('_', ' ')}, {machine['threads']} thread(s), torch {machine['torch']}, {dates[-1]}; "
            "median (least to most) over rounds in which both sides took turns:\n\n"
            "| what | textbook | ours | times as fast | memory |\n|---|---|---|---|---|\n" + "\n".join(rows)
        )
    if not any("NVIDIA" in device for device in results):
        parts.append(NO_GPU)
    return "\n\n".join(parts)


def _rows(name: str, result: dict) -> list[str]:
    for prefix, rows_of in ROWS.items():
        if name == prefix or name.startswith(f"{prefix}-"):
            return rows_of(result)
    return []


def _times(ratio: dict[str, float]) -> str:
    return f"**{ratio['median']:.1f}** ({ratio['least']:.1f} to {ratio['most']:.1f})"


def _training(result: dict) -> list[str]:
    options, sides = result["options"], dict(result["sides"])
    sides.pop("flops")
    slow = statistics.median(sides["textbook"]["seconds"])
    what = f"training step, ViT-{options['name']}/16, {options['batch']} pairs"
    rows = []
    for name, side in sides.items():
        if name == "textbook":
            continue
        own = statistics.median(side["seconds"])
        share = side["useful_flops_per_second"] / side["matmul_flops_per_second"]
        rows.append(
            f"| {what}, {name} ({share:.0%} of the matmul peak) | {slow:.2f} s | {own:.2f} s | {_times(side['ratio'])} "
            f"| {side['memory_ratio']:.2f} |"
        )
    return rows


def _losses(result: dict) -> list[str]:
    rows = []
    for row in result["rows"]:
        if "textbook" in row and row["batch"] in (64, 512):
            what = {"contrast": "CMA and IMC", "lmi": "LMI"}[row["losses"]]
            memory = row["ours"]["bytes"] / row["textbook"]["bytes"]
            rows.append(
                f"| {what}, {row['batch']} pairs | {row['textbook']['seconds']:.3f} s | {row['ours']['seconds']:.3f} s "
                f"| {_times(row['ratio'])} | {memory:.2f} |"
            )
    return rows


def _loader(result: dict) -> list[str]:
    slow, fast = (statistics.median(result["samples_per_second"][side]) for side in ("plain", "ours"))
    cropped = statistics.median(result["samples_per_second"]["cropped"])
    return [
        f"| loader, one core | {slow:.0f} samples/s | {fast:.0f} samples/s | {_times(result['ratio'])} | |",
        f"| loader, one core, the rest on the device ({result['seconds_per_sample_on_device'] * 1e3:.1f} ms a sample "
        f"there) | {slow:.0f} samples/s | {cropped:.0f} samples/s | {cropped / slow:.1f} | |",
    ]


def _sides(what: Callable[[dict], str], slow: str, fast: list[str]) -> Callable[[dict], list[str]]:
    def rows(result: dict) -> list[str]:
        seconds, ratios = result["seconds"], result["ratios"]
        found = []
        for name in fast:
            label = what(result["options"]) + ("" if name == "ours" else f", {name}")
            before, now = (statistics.median(seconds[side]) for side in (slow, name))
            found.append(f"| {label} | {before:.1f} s | {now:.1f} s | {_times(ratios[name])} | |")
        return found

    return rows


ROWS: dict[str, Callable[[dict], list[str]]] = {
    "training": _training,
    "losses": _losses,
    "loader": _loader,
    "retrieval": _sides(
        lambda options: f"re-ranking {options['images']} images x {options['captions']:,} captions, k {options['k']}",
        "plain",
        ["fp32", "default"],
    ),
    "vqa": _sides(lambda options: f"ranking {options['answers']:,} answers, k {options['k']}", "plain", ["ours"]),
}
"""By the name of a result, or its beginning."""


def in_readme(text: str) -> str:
    """What stands between the comments."""
    return text.split(BEGIN)[1].split(END)[0].strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put it into README.md")
    report = render(newest_results())
    if parser.parse_args().write:
        before, rest = README.read_text().split(BEGIN)
        README.write_text(f"{before}{BEGIN}\n{report}\n{END}{rest.split(END)[1]}")
    print(report)


if __name__ == "__main__":
    main()
