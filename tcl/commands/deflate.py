"""Turn a model of clips into one of images: faster on images, and as near to it as its norms can bring it.

    tcl deflate runs/clips --images photos --out exports/images

Scales and offsets of the video encoder's norms are fitted, by L1, to what it makes of copies of each image (MMV, arXiv
2006.16228); no labels are needed. One image in ten is not fitted: on these the distance is printed, before and after.
Where frames do not see each other, or the shift repeats a clip's ends (model.video.ends: repeat), it is 0 at once.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tcl.commands.model_options import add_model_source
from tcl.commands.parser import command_parser
from tcl.config.checks import check_at_least, require
from tcl.errors import InputError
from tcl.shown import say

if TYPE_CHECKING:
    from torch import Tensor

    from tcl.exports.pretrained import Pretrained

HELD_OUT = 10


def parser() -> argparse.ArgumentParser:
    """What `tcl deflate --help` lists."""
    options = command_parser("tcl deflate", __doc__)
    add_model_source(options)
    source = options.add_mutually_exclusive_group(required=True)
    source.add_argument("--images", type=Path, metavar="DIR", help="a folder, with the folders in it")
    source.add_argument("--shards", metavar="PATTERN", help="shards: a glob, a brace range or a URL")
    options.add_argument("--out", type=Path, required=True, metavar="OUT", help="a folder, for an export")
    options.add_argument("--max_images", type=int, default=1000, metavar="N", help="the first (default 1000)")
    options.add_argument("--steps", type=int, default=200, metavar="N", help="of Adam (default 200)")
    options.add_argument("--batch_size", type=int, default=32, metavar="N", help="images in a step (default 32)")
    options.add_argument("--lr", type=float, default=0.001, help="learning rate (default 0.001)")
    options.add_argument("--seed", type=int, default=0, help="of the images of each step (default 0)")
    options.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:N (default: a GPU where there is one)")
    options.add_argument("--workers", type=int, default=2, metavar="N", help="processes that decode (default 2)")
    return options


def main(arguments: list[str]) -> None:
    """InputError: impossible options, a model that sees no clips, too few images."""
    given = parser().parse_args(arguments)
    check_at_least(0, {"steps": given.steps, "workers": given.workers})
    check_at_least(1, {"batch_size": given.batch_size})
    check_at_least(2, {"max_images": given.max_images})
    require(0 < given.lr <= 1, "lr", given.lr, "more than 0, at most 1")
    from tcl.exports.pretrained import load_pretrained, save_pretrained
    from tcl.inference.deflate import deflate
    from tcl.inference.hardware import find_hardware

    device = find_hardware(given.device, "fp32").device
    pretrained = load_pretrained(given.model, revision=given.revision)
    pixels = read_pixels(pretrained, given).to(device)
    held_out = len(pixels) // HELD_OUT or 1
    settings = {name: getattr(given, name) for name in ("steps", "batch_size", "lr", "seed")}
    deflated, found = deflate(pretrained, pixels[held_out:], pixels[:held_out], **settings)
    line = (
        f"L1 to the model of clips on {held_out:,} other images: {found.before:.2g} before, {found.after:.2g} after, "
        f"of features of {found.size:.2g}"
    )
    save_pretrained(deflated, given.out, card=f"{pretrained.card}\n\nDeflated to images: {line}.\n")
    say(f"{given.out}: fitted to {len(pixels) - held_out:,} images in {given.steps:,} steps; {line}")


def read_pixels(pretrained: "Pretrained", given: argparse.Namespace) -> "Tensor":
    """[n, 3, H, W] of the images that can be used. InputError: fewer than 2."""
    import torch

    from tcl.data.images.augment import eval_transform
    from tcl.data.images.read_images import images_of_folder, images_of_shards, stream_images
    from tcl.data.shards.list_shards import list_shards
    from tcl.inference.images import MAX_PIXELS

    files = images_of_folder(given.images) if given.shards is None else images_of_shards(list_shards(given.shards))
    encoder = pretrained.student.averaged.image_encoder
    transform = eval_transform(pretrained.model.image.image_size, encoder.mean, encoder.std)
    found, skipped = [], 0
    for batch in stream_images(files, transform, batch_size=32, max_pixels=MAX_PIXELS, workers=given.workers):
        found += [pixels for of_batch in batch.inputs for pixels in of_batch]
        skipped += len(batch.skipped)
        if len(found) >= given.max_images:
            break
    if len(found) < 2:
        raise InputError(f"images: {len(found)} can be used, {skipped} were skipped; give at least 2")
    if skipped:
        say(f"skipped {skipped:,} images")
    return torch.stack(found[: given.max_images])
