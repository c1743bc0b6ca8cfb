"""Collect the commonest answers of VQA shards into the list that answers.list names.

    tcl answers --shards 'data/vqa_v2/{train,val}/*.tar' --out data/vqa_v2/answers.txt --size 3128

One a line, lower case, the commonest first. An answer counts once for each annotator who gave it.
"""

import argparse
from pathlib import Path

from tcl.commands.parser import command_parser
from tcl.shown import say


def parser() -> argparse.ArgumentParser:
    """What `tcl answers --help` lists."""
    options = command_parser("tcl answers", __doc__)
    options.add_argument("--shards", required=True, metavar="PATTERN", help="a glob, a brace range or a URL")
    options.add_argument("--out", type=Path, required=True, metavar="FILE", help="a file that is there is replaced")
    options.add_argument("--size", type=int, default=3128, metavar="N", help="answers at most (default 3128)")
    return options


def main(arguments: list[str]) -> None:
    """InputError: no answers in the shards, an impossible number, an OUT that cannot be written."""
    given = vars(parser().parse_args(arguments))
    from tcl.data.sets.collect_answers import make_answer_list

    say(make_answer_list(**given))
