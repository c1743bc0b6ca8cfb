"""Compare runs: the options that differ, losses and evaluations in one table, and all curves in one picture.

tcl compare runs/plain runs/circle --out comparison.png
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from tcl.commands.parser import command_parser
from tcl.errors import InputError
from tcl.shown import say


def parser() -> argparse.ArgumentParser:
    """What `tcl compare --help` lists."""
    options = command_parser("tcl compare", __doc__)
    options.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="the output_dir of a run, two or more")
    options.add_argument("--out", type=Path, metavar="FILE", help="a .png, .svg or .pdf (default comparison.png)")
    options.add_argument("--json", action="store_true", help="the table as JSON")
    return options


def main(arguments: list[str]) -> None:
    """InputError: fewer than two runs, one that is there twice, no run there, an OUT that cannot be written."""
    given = parser().parse_args(arguments)
    if len(given.runs) < 2:
        raise InputError("run: there is one; give two or more, or draw it with `tcl plot`")
    from tcl.runs.comparison import compare, comparison_table, run_names
    from tcl.runs.curves import plot_runs, read_rows

    runs = run_names(given.runs)
    found = {name: read_rows(run) for name, run in runs.items()}
    rows = {name: of_run for name, (of_run, _) in found.items()}
    compared = compare(runs, rows)
    picture = plot_runs(rows, given.out or Path("comparison.png"))
    if given.json:
        print(json.dumps(asdict(compared), indent=1))
        return
    for line in comparison_table(compared, list(runs)):
        say(line)
    say(str(picture))
    for name, (_, damaged) in found.items():
        if damaged:
            say(f"left out of {name}: {damaged:,} lines of metrics.jsonl that are no rows of a run")
