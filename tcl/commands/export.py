"""Turn a run or one of its checkpoints into a folder that holds all that is needed to use the model, and its card.

    tcl export runs/pretrain exports/mine

docs/checkpoints.md says what is in it. MODEL may be an export or a hub id as well.
"""

import argparse
from pathlib import Path

from tcl.commands.model_options import add_model_source
from tcl.commands.parser import command_parser
from tcl.shown import say


def parser() -> argparse.ArgumentParser:
    """What `tcl export --help` lists."""
    options = command_parser("tcl export", __doc__)
    add_model_source(options)
    options.add_argument("out", type=Path, metavar="OUT", help="a folder; an export that is there is replaced")
    options.add_argument("--with_teacher", action="store_true", help="keep momentum weights and queues")
    options.add_argument(
        "--with_code",
        action="store_true",
        help="a file by which sentence-transformers loads it where nobody imports tcl, given trust_remote_code=True",
    )
    return options


def main(arguments: list[str]) -> None:
    """InputError: no model there, an OUT that belongs to a run or cannot be written."""
    given = parser().parse_args(arguments)
    from tcl.exports.pretrained import load_pretrained, save_pretrained

    pretrained = load_pretrained(given.model, revision=given.revision, with_teacher=given.with_teacher)
    pretrained.with_code |= given.with_code
    save_pretrained(pretrained, given.out)
    parameters = sum(parameter.numel() for parameter in pretrained.student.parameters())
    say(f"{given.out}: a {pretrained.kind.name} model of {parameters:,} parameters; README.md is its card")
