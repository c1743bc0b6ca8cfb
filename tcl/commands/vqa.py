"""Answer questions about an image, a line each.

    tcl vqa runs/vqa --image street.jpg --questions "what colour is the car?" "what is on the left?"

The answers are those of the list that the model was fine-tuned with, or of --answers, or the decoder writes them.
"""

import argparse
from pathlib import Path

from tcl.commands.model_options import add_model_options, load_model
from tcl.commands.parser import command_parser
from tcl.errors import InputError
from tcl.shown import say


def parser() -> argparse.ArgumentParser:
    """What `tcl vqa --help` lists."""
    options = command_parser("tcl vqa", __doc__)
    add_model_options(options)
    options.add_argument("--image", required=True, metavar="FILE")
    options.add_argument("--questions", nargs="+", required=True, metavar="TEXT")
    options.add_argument("--answers", type=Path, metavar="FILE", help="the possible ones, a line each")
    return options


def main(arguments: list[str]) -> None:
    """InputError: no model, an image, question or answer that cannot be used."""
    given = parser().parse_args(arguments)
    if given.answers is not None and not given.answers.is_file():
        raise InputError(f"answers: {given.answers} is no file; give one with an answer per line")
    from tcl.data.texts.answer_list import read_answer_list
    from tcl.inference.question_model import TCLForVQA

    candidates = None if given.answers is None else read_answer_list(given.answers, "answers")
    for answer in load_model(TCLForVQA, given).answer(given.image, given.questions, candidates):
        say(answer)
