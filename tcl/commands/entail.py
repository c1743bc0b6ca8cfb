"""Say whether an image entails texts, contradicts them, or neither, a line each.

    tcl entail runs/entailment --image street.jpg --texts "a car is red" "nobody is outside"

A line is the class, its probability and the text.
"""

import argparse

from tcl.commands.model_options import add_model_options, load_model
from tcl.commands.parser import command_parser
from tcl.shown import say


def parser() -> argparse.ArgumentParser:
    """What `tcl entail --help` lists."""
    options = command_parser("tcl entail", __doc__)
    add_model_options(options)
    options.add_argument("--image", required=True, metavar="FILE")
    options.add_argument("--texts", nargs="+", required=True, metavar="TEXT")
    return options


def main(arguments: list[str]) -> None:
    """InputError: no model, an image or text that cannot be used."""
    given = parser().parse_args(arguments)
    from tcl.inference.entailment_model import TCLForEntailment

    model = load_model(TCLForEntailment, given)
    width = max(map(len, model.classes))
    for text, (best, *_) in zip(given.texts, model.classify(given.image, given.texts), strict=True):
        say(f"{best.name:{width}}  {best.probability:.4f}  {text}")
