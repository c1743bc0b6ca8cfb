"""Find in an image what a text means.

    tcl ground runs/pretrain dog.jpg "the dog on the left" --boxes boxes.json

prints the box as x, y, width, height in pixels. With --boxes it is one of those, of a JSON list [[x, y, width, height],
...] or of lines of four numbers; else it is made from the map (Grad-CAM).
"""

import argparse
import json
from pathlib import Path

from tcl.commands.model_options import add_model_options, load_model
from tcl.commands.parser import command_parser
from tcl.errors import InputError
from tcl.shown import say

LARGEST = 2**24
"""Bytes of a file of boxes."""


def parser() -> argparse.ArgumentParser:
    """What `tcl ground --help` lists."""
    options = command_parser("tcl ground", __doc__)
    add_model_options(options)
    options.add_argument("image", metavar="IMAGE", help="a file")
    options.add_argument("text", metavar="TEXT", help="in quotes")
    options.add_argument("--boxes", type=Path, metavar="FILE", help="boxes to choose from")
    options.add_argument("--mode", choices=("itm", "itc"), default="itm", help="how the text is read (default itm)")
    options.add_argument("--layer", type=int, metavar="N", help="whose attention is looked at (default: as published)")
    options.add_argument("--out", type=Path, metavar="FILE", help="a .png of the image with the map and the box")
    options.add_argument("--json", action="store_true", help="box, index, score, point and blank as JSON instead")
    return options


def main(arguments: list[str]) -> None:
    """InputError: no model, an image, a text or boxes that cannot be used, no such layer, an OUT not to be written."""
    given = parser().parse_args(arguments)
    if given.out is not None and given.out.suffix.lower() != ".png":
        raise InputError(f"out: {given.out} is no PNG; give a name that ends in .png")
    boxes = None if given.boxes is None else read_boxes(given.boxes)
    from tcl.inference.tcl_model import TCL

    model = load_model(TCL, given)
    found = model.ground(given.image, given.text, boxes, mode=given.mode, layer=given.layer)
    if given.out is not None:
        found.save(given.out)
    if given.json:
        names = ("box", "index", "score", "point", "blank")
        print(json.dumps({name: getattr(found, name) for name in names}))
        return
    chosen = "" if found.index is None else f"  box {found.index} of {len(boxes)}"
    nothing = "  (nothing in the image speaks for the text)" if found.blank else ""
    say(" ".join(f"{value:.1f}" for value in found.box) + chosen + nothing)


def read_boxes(path: Path) -> list:
    """What a file of boxes holds; whether these can be used is for whoever knows the image. InputError: no such file,
    no JSON list, lines that are no numbers."""
    accepted = "give a JSON list [[x, y, width, height], ...], or four numbers a line"
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"boxes: {path} cannot be read ({error.strerror}); {accepted}") from error
    if len(content) > LARGEST:
        raise InputError(f"boxes: {path} is larger than {LARGEST >> 20} MiB; {accepted}")
    try:
        text = content.decode("utf-8-sig")
        if text.lstrip().startswith("["):
            return json.loads(text)
        return [[float(word) for word in line.replace(",", " ").split()] for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as error:
        raise InputError(f"boxes: {path} holds no boxes ({str(error).splitlines()[0]}); {accepted}") from error
