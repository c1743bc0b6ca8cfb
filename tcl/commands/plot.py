"""Draw the curves of a run: losses, ITM accuracy, and what its evaluations found.

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
    from tcl.runs.curves import plot_run, read_rows

    say(str(plot_run(given.run, given.out)))
    damaged = read_rows(given.run)[1]
    if damaged:
        say(f"left out: {damaged:,} lines of metrics.jsonl that are no rows of a run")
