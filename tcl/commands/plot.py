"""Draw the curves of a run: losses, accuracies, and what its evaluations found, a panel each.

tcl plot runs/pretrain --out curves.png
"""

import argparse
from pathlib import Path

from tcl.commands.parser import command_parser
from tcl.shown import say


def parser() -> argparse.ArgumentParser:
    """What `tcl plot --help` lists."""
    options = command_parser("tcl plot", __doc__)
    options.add_argument("run", type=Path, metavar="RUN", help="the output_dir of a run")
    options.add_argument("--out", type=Path, metavar="FILE", help="a .png, .svg or .pdf (default RUN/curves.png)")
    return options


def main(arguments: list[str]) -> None:
    """InputError: no run there, nothing to draw yet, an OUT that cannot be written."""
    given = parser().parse_args(arguments)
    from tcl.runs.curves import check_picture, plot_runs, read_rows

    out = given.out or given.run / "curves.png"
    check_picture(out)
    rows, damaged = read_rows(given.run)
    say(str(plot_runs({given.run.name: rows}, out)))
    if damaged:
        say(f"left out: {damaged:,} lines of metrics.jsonl that are no rows of a run")
