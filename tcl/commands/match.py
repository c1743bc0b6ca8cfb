"""How probable it is that each of some texts belongs to each of some images, by the fusion encoder.

    tcl match runs/pretrain --images dog.jpg cat.jpg --texts "a dog on a mat" "a cat"
    tcl match Salesforce/blip-itm-base-coco --images dog.jpg --texts "a dog on a mat"

prints a line for each pair: the probability (0 to 1), the image, the text. MODEL may also be a folder or hub
id of a BLIP of transformers for image-text matching (BlipForImageTextRetrieval).
"""

import argparse
import json

from tcl.commands.model_options import add_model_options, load_matcher
from tcl.commands.parser import command_parser
from tcl.shown import say, shown


def parser() -> argparse.ArgumentParser:
    """What `tcl match --help` lists."""
    options = command_parser("tcl match", __doc__)
    add_model_options(options)
    options.add_argument("--images", nargs="+", required=True, metavar="FILE")
    options.add_argument("--texts", nargs="+", required=True, metavar="TEXT")
    options.add_argument("--json", action="store_true", help='a list of {"image", "text", "match"} instead')
    return options


def main(arguments: list[str]) -> None:
    """InputError: no model, images or texts that cannot be used."""
    given = parser().parse_args(arguments)
    grid = load_matcher(given).match_grid(given.images, given.texts).tolist()
    pairs = [
        {"image": image, "text": text, "match": match}
        for image, of_image in zip(given.images, grid, strict=True)
        for text, match in zip(given.texts, of_image, strict=True)
    ]
    if given.json:
        print(json.dumps(pairs, indent=1))
        return
    width = max(len(shown(image)) for image in given.images)
    for pair in pairs:
        say(f"{pair['match']:.3f}  {shown(pair['image']):{width}}  {pair['text']}")
