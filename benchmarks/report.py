"""The tables of docs/performance.md, from the newest of the files in benchmarks/results and from nothing else.

    python -m benchmarks.report [--write]

Prints it; --write puts it between the two comments in docs/performance.md. A test compares the two.
"""

import argparse
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import RESULTS

BEGIN, END = "<!-- python -m benchmarks.report -->", "<!-- end of the report -->"
PAGE = Path("docs/performance.md")
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
    """Markdown: for each device a table of comparisons, and what was measured of ours alone."""
    parts = []
    for device, by_name in results.items():
        rows = [row for name, result in by_name.items() for row in _first(ROWS, name, [])(result)]
        alone = [_first(ALONE, name, "")(result) for name, result in by_name.items()]
        if not rows:
            continue
        machine = next(iter(by_name.values()))["machine"]
        dates = sorted({result["date"] for result in by_name.values()})
        parts.append(
            f"{device.replace('_', ' ')}, {machine['threads']} thread(s), torch {machine['torch']}, {dates[-1]}; "
            "median (least to most) over rounds in which both sides took turns:\n\n"
            "| what | textbook | ours | times as fast | memory |\n|---|---|---|---|---|\n" + "\n".join(rows)
        )
        parts += filter(None, alone)
    if not any("NVIDIA" in device for device in results):
        parts.append(NO_GPU)
    return "\n\n".join(parts)


def _first(kinds: dict[str, Callable], name: str, nothing: object) -> Callable:
    """What `kinds` has for the result `name`, or a function that gives `nothing`."""
    fitting = (found for kind, found in kinds.items() if name == kind or name.startswith(f"{kind}-"))
    return next(fitting, lambda result: nothing)


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
    rows = [f"| loader, one core | {slow:.0f} samples/s | {fast:.0f} samples/s | {_times(result['ratio'])} | |"]
    if "CPU" not in result["machine"]["device"]:
        rows.append(
            f"| loader, one core, the rest on the GPU ({result['seconds_per_sample_on_device'] * 1e3:.1f} ms a sample) "
            f"| {slow:.0f} samples/s | {cropped:.0f} samples/s | {_times(result['cropped_ratio'])} | |"
        )
    return rows


def _clips(result: dict) -> list[str]:
    slow, fast = (statistics.median(result["clips_per_second"][side]) for side in ("plain", "ours"))
    width, height = result["options"]["size"]
    what = f"clips with sound, {width} x {height}, one core"
    return [f"| {what} | {slow:.1f} clips/s | {fast:.1f} clips/s | {_times(result['ratio'])} | |"]


def _hubness(result: dict) -> list[str]:
    rows, bank = [], result["options"]["bank"]
    for row in result["rows"]:
        what, ours, textbook = row["method"].replace("_", " "), row["ours"], row.get("textbook")
        slow = "its matrix does not fit" if textbook is None else f"{textbook['seconds']:.1f} s"
        times = "" if textbook is None else f"**{textbook['seconds'] / ours['seconds']:.1f}**"
        memory = f"{ours['bytes'] / 2**20:.0f} MiB" if textbook is None else f"{ours['bytes'] / textbook['bytes']:.2f}"
        rows.append(
            f"| {what} of {row['candidates']:,} candidates by {bank:,} queries | {slow} | {ours['seconds']:.1f} s "
            f"| {times} | {memory} |"
        )
    cost = result["query"]["median"]
    return [*rows, f"| a search re-scored by it, in times of a plain one | | {cost:.2f} | | |"]


def _matching(result: dict) -> list[str]:
    """Against stored tokens, all of them in fp16, which saves the image encoder."""
    rows, options, seconds = [], result["options"], result["seconds"]
    slow = "all tokens, fp16"
    what = f"a text with {options['candidates']} images, ViT-{options['size']}/16, {result['precision']}"
    for name, row in result["rows"].items():
        if name == slow or row["bytes"] is None:
            continue
        before, now = (statistics.median(seconds[side]) for side in (slow, name))
        rows.append(
            f"| {what}: {name}, {row['bytes']:,} bytes an image ({row['times_encoded']['median']:.0f} times as fast as "
            f"encoding them) | {before:.2f} s, {slow} | {now:.2f} s | {_times(row['times_full'])} | |"
        )
    return rows


def _codes(result: dict) -> list[str]:
    rows = []
    for row in result["rows"]:
        count, slow = row["candidates"], statistics.median(row["tables"]["milliseconds"])
        what = f"10 best of {count:,} codes of {row['bytes_each']} bytes"
        sides = {"all of them": (row["flat"], row["flat"]["bytes"])} | {
            f"{looked} of {row['lists']['lists']:,} lists": (found, row["lists"]["bytes"])
            for looked, found in row["lists"]["looked"].items()
        }
        for name, (found, size) in sides.items():
            own = statistics.median(found["milliseconds"])
            rows.append(
                f"| {what}, {name}: recall {found['recall']:.2f} | {slow:.0f} ms | {own:.1f} ms | **{slow / own:.1f}** "
                f"| {size / 2**20:,.0f} MiB |"
            )
    return rows


def _stored_tokens(result: dict) -> list[str]:
    rows, batch = [], result["options"]["batch"]
    for row in result["rows"]:
        objective, text = row["row"].split("/")
        speeds = {name: batch / parts["step"] for name, parts in row["parts"].items()}
        for storage, times in row["ratios"].items():
            rows.append(
                f"| {objective} on a frozen ViT-S/16, text side {text}, from {storage} tokens instead of pixels "
                f"| {speeds['pixels']:.2f} pairs/s | {speeds[storage]:.2f} pairs/s | {_times(times)} | |"
            )
    return rows


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
    "clips": _clips,
    "log-mel": _sides(
        lambda options: f"{options['count']:,} log-mel spectrograms of {options['seconds']} s, against torchaudio's",
        "torchaudio",
        ["ours"],
    ),
    "hubness": _hubness,
    "matching": _matching,
    "codes": _codes,
    "stored_tokens": _stored_tokens,
    "retrieval": _sides(
        lambda options: f"re-ranking {options['images']} images x {options['captions']:,} captions, k {options['k']}",
        "plain",
        ["fp32", "default"],
    ),
    "vqa": _sides(lambda options: f"ranking {options['answers']:,} answers, k {options['k']}", "plain", ["ours"]),
}
"""By the name of a result, or its beginning."""


def _parts(result: dict) -> str:
    options, whole = result["options"], result["whole"]
    shares = sorted(result["parts"].items(), key=lambda part: -part[1])
    return (
        f"Where a step of ViT-{options['name']}/16 with {options['batch']} pairs goes, each part measured alone: "
        + "; ".join(f"{name} {seconds / whole:.0%}" for name, seconds in shares)
        + "."
        + _roofline(result)
    )


def _roofline(result: dict) -> str:
    """How far the step is from what the machine could do."""
    if "kinds" not in result:
        return ""
    kinds, products = result["kinds"], result["products"]
    whole, least = sum(kinds.values()), products["flops"] / products["peak"]
    shares = sorted(kinds.items(), key=lambda kind: -kind[1])
    return (
        " By operations: "
        + "; ".join(f"{name} {seconds / whole:.0%}" for name, seconds in shares)
        + f". Its products are {products['flops'] / 1e9:,.0f} GFLOP: {least:.2f} s of its {result['whole']:.2f} s at "
        f"the {products['peak'] / 1e9:,.0f} GFLOP/s of a large square product."
    )


def _scale(result: dict) -> str:
    rows = []
    for varied, series in result["series"].items():
        first, *_, last = series["points"]
        ends = [series["points"][value] for value in (first, last)]
        seconds = " to ".join(f"{statistics.median(end['seconds']):.2f}" for end in ends)
        memory = " to ".join(f"{end['bytes'] / 2**30:.2f}" for end in ends)
        slopes = series["slopes"]
        rows.append(
            f"| {varied} | {int(first):,} to {int(last):,} | {seconds} | {slopes['seconds']:.2f} | {memory} "
            f"| {slopes['bytes']:.2f} |"
        )
    return (
        "How a step grows, default settings; slopes are log-log, 1 in proportion, 2 as the square:\n\n"
        "| what varies | from, to | seconds | slope | GiB | slope |\n|---|---|---|---|---|---|\n" + "\n".join(rows)
    )


def _processes(result: dict) -> str:
    rows = []
    for name, run in result["runs"].items():
        costs = run["costs"]
        rows.append(
            f"| {name} | {costs['pairs_per_second']:.1f} | {costs['peak_bytes'] / 2**20:.0f} | {costs['added']:.2f} "
            f"| {costs['added_with_thread']:.2f} | {costs['resume']:.2f} |"
        )
    return (
        f"Processes on the CPU's cores, a small model, {result['pairs']} pairs a step over all of them:\n\n"
        "| processes | pairs/s | MiB | a checkpoint adds, s | written by a thread | resuming, s |\n"
        "|---|---|---|---|---|---|\n" + "\n".join(rows)
    )


def _long_run(result: dict) -> str:
    return (
        f"Over {result['options']['steps']:,} steps of a tiny model the last windows ran at {result['kept_speed']:.2f} "
        f"of the speed of the first; memory changed by {result['grown_mib']:+.1f} MiB in the trainer and by "
        f"{result['loaders_grown_mib']:+.1f} MiB in its loader."
    )


def _loader_scale(result: dict) -> str:
    options, start = result["options"], result["start_up_seconds"]["with_sizes"]
    return (
        f"The loader lists {options['shards']:,} shards in {start['listed']:.2f} s and has a batch "
        f"{start['first_batch']:.2f} s later; over {result['memory'][-1]['samples']:,} samples its memory changed by "
        f"{result['grown_mib']:+.1f} MiB."
    )


def _search(result: dict) -> str:
    rows = []
    for row in result["rows"]:
        timed = ("text", "search", "read", "match", "query", "from_images")
        milliseconds = " | ".join(f"{1000 * statistics.median(row[name]):.1f}" for name in timed)
        rows.append(
            f"| {row['images']:,} | {row['embeddings']} | {milliseconds} "
            f"| **{row['times_as_fast_as_from_images']:.1f}** | {row['resident_mib']:.0f} | {row['recall']:.3f} |"
        )
    said = [
        "A query in an index, ViT-S/16, 64 candidates matched from 16 int8 tokens each, ms (recall: of the 64 "
        "nearest):\n\n"
        "| images | kept as | text | search | tokens | match | all | from the images | times as fast | MiB | recall |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|\n" + "\n".join(rows)
    ]
    if indexing := result.get("indexing"):
        encoder = statistics.median(indexing["rates"]["encoder"])
        said.append(
            f"Indexing runs at {indexing['share']['median']:.2f} of the encoder's own {encoder:.1f} images a second "
            f"and leaves {indexing['bytes_of_an_image']:,.0f} bytes an image."
        )
    if engines := result.get("engines"):
        times = " and ".join(
            f"{1000 * statistics.median(seconds):.2f} ms in {name}" for name, seconds in engines["seconds"].items()
        )
        said.append(f"A search in {engines['images']:,} takes {times}; the same answers: {engines['same']}.")
    return "\n\n".join(said)


ALONE: dict[str, Callable[[dict], str]] = {
    "parts": _parts,
    "scale": _scale,
    "processes": _processes,
    "long_run": _long_run,
    "loader_scale": _loader_scale,
    "search": _search,
}
"""As above."""


def on_page(text: str) -> str:
    """What stands between the comments."""
    return text.split(BEGIN)[1].split(END)[0].strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put it into docs/performance.md")
    report = render(newest_results())
    if parser.parse_args().write:
        before, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{report}\n{END}{rest.split(END)[1]}")
    print(report)


if __name__ == "__main__":
    main()
