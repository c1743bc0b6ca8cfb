"""Show what in an image speaks for a text: a PNG of the image under a heat map (Grad-CAM).

    tcl explain runs/pretrain --image dog.jpg --text "a dog on a mat" --out where.png

It names the words as the model reads them, with their numbers; --word 1 shows the map of one.
"""

import argparse
from pathlib import Path

from tcl.commands.model_options import add_model_options, load_model
from tcl.commands.parser import command_parser
from tcl.errors import InputError
from tcl.shown import say


def parser() -> argparse.ArgumentParser:
    """What `tcl explain --help` lists."""
    options = command_parser("tcl explain", __doc__)
    add_model_options(options)
    options.add_argument("--image", required=True, metavar="FILE")
    options.add_argument("--text", required=True, metavar="TEXT")
    options.add_argument("--out", type=Path, required=True, metavar="FILE", help="a .png")
    options.add_argument("--word", type=int, metavar="N", help="the map of this word (default: of the whole text)")
    options.add_argument("--layer", type=int, metavar="N", help="of the fusion encoder (default: the middle one)")
    options.add_argument("--published", action="store_true", help="the whole text's map with [CLS], as in grounding")
    return options


def main(arguments: list[str]) -> None:
    """InputError: no model, an image or a text that cannot be used, no such word or layer, an OUT not to be written."""
    given = parser().parse_args(arguments)
    if given.out.suffix.lower() != ".png":
        raise InputError(f"out: {given.out} is no PNG; give a name that ends in .png")
    from tcl.inference.tcl_model import TCL

    heat = load_model(TCL, given).explain(given.image, given.text, layer=given.layer)
    heat.save(given.out, given.word, published=given.published)
    say(f"{given.out}: {' '.join(f'{i}:{word}' for i, word in enumerate(heat.words))}")
