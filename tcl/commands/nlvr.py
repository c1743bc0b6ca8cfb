"""Say whether texts are true of two images, a line each.

    tcl nlvr runs/nlvr --left a.jpg --right b.jpg --texts "both images show a dog" "one dog is black"

A line is True or False, how probable it is that the text is true, and the text.
"""

import argparse

from tcl.commands.model_options import add_model_options, load_model
from tcl.commands.parser import command_parser
from tcl.shown import say


def parser() -> argparse.ArgumentParser:
    """What `tcl nlvr --help` lists."""
    options = command_parser("tcl nlvr", __doc__)
    add_model_options(options)
    options.add_argument("--left", required=True, metavar="FILE", help="the first image")
    options.add_argument("--right", required=True, metavar="FILE", help="the second image")
    options.add_argument("--texts", nargs="+", required=True, metavar="TEXT")
    return options


def main(arguments: list[str]) -> None:
    """InputError: no model, an image or text that cannot be used."""
    given = parser().parse_args(arguments)
    from tcl.inference.nlvr_model import TCLForNLVR

    true = load_model(TCLForNLVR, given).probability(given.left, given.right, given.texts)
    for text, probability in zip(given.texts, true, strict=True):
        say(f"{probability > 0.5!s:5}  {probability:.4f}  {text}")
