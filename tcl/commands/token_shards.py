"""Turn image-text shards into shards of stored image tokens, from which training on top of a frozen tower is faster.

    tcl shards --tokens runs/pretrain --shards 'data/train/*.tar' --config my.yaml --out data/train_tokens
    tcl shards --tokens my.yaml --shards 'data/train/*.tar' --views 8 --storage int8 --out data/train_tokens

MODEL is a run, one of its checkpoints, an export or a hub id, or the YAML file of a run that is to train on top of a
tower which model.image of that file names and freezes. --config is the file of the run that will read the tokens: its
data.augment draws the views. Then train with these shards as data.train and model.image.frozen: true; the run draws one
of the views where it would have made one, and reads pixels for evaluation only. Everything beside the images stays as
it is. A run that would draw other views, or has another tower, is refused.

A view of an image in ViT-S/16 at 256 px (257 x 384 numbers) takes 197 kB in fp16, 100 kB in int8. What was finished
when the command was interrupted stays in OUT.partial, and the same command goes on. Several machines share the work by
shards: each makes a folder of its own, and data.train names them all.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tcl.commands.model_options import add_hardware_options
from tcl.commands.parse_number import parse_number
from tcl.commands.parser import command_parser
from tcl.shown import say

if TYPE_CHECKING:
    from tcl.data.shards.unfinished_shards import ShardsOfShards

TOKENS = "--tokens"
VIEWS = 4
"""Where no file says how many. Student and teacher each draw one: with few they often draw the same."""


def parser() -> argparse.ArgumentParser:
    """What `tcl shards --tokens MODEL --help` lists."""
    options = command_parser("tcl shards --tokens", __doc__)
    options.add_argument(
        TOKENS, metavar="MODEL", required=True, help="a model, or a YAML file that names a frozen tower"
    )
    options.add_argument("--revision", metavar="NAME", help="branch, tag or commit of a hub id")
    options.add_argument("--shards", required=True, metavar="PATTERN", help="shards: a glob, a brace range or a URL")
    options.add_argument("--out", type=Path, required=True, metavar="DIR")
    options.add_argument("--config", metavar="FILE", help="YAML whose data.augment draws the views (default: MODEL's)")
    options.add_argument("--views", type=int, metavar="N", help=f"of an image (default data.augment.views, or {VIEWS})")
    options.add_argument("--storage", choices=("fp16", "int8"), default="fp16", help="default fp16")
    options.add_argument("--max_pixels", default="100e6", help="larger images are skipped (default 100e6)")
    options.add_argument("--workers", type=int, default=2, metavar="N", help="processes that decode (default 2)")
    options.add_argument("--overwrite", action="store_true", help="replace --out if it is there")
    add_hardware_options(options, "views", batch_size=16)
    return options


def main(arguments: list[str]) -> None:
    """InputError: impossible options, no model, shards without use, an --out that is in use."""
    if {"-h", "--help"} & set(arguments):  # argparse would take it for a missing MODEL
        parser().print_help()
        return
    given = parser().parse_args(arguments)
    max_pixels = parse_number("max_pixels", given.max_pixels)
    from tcl.config.data import AugmentConfig
    from tcl.inference.frozen_tower import augment_of, is_configuration, load_tower
    from tcl.inference.hardware import find_hardware
    from tcl.inference.token_shards import TokenRecipe, write_token_shards

    augment = AugmentConfig()
    if given.config is not None:
        augment = augment_of(given.config, "config")
    elif is_configuration(given.tokens):
        augment = augment_of(given.tokens, "tokens")
    views = given.views if given.views is not None else augment.views or VIEWS
    encoder, config = load_tower(given.tokens, given.revision)
    hardware = find_hardware(given.device, given.precision)
    tower = TokenRecipe(
        encoder.to(hardware.device), config, hardware, replace(augment, views=views), given.storage, given.batch_size
    )
    out = given.out
    print_report(
        write_token_shards(
            given.shards, out, tower, max_pixels=max_pixels, workers=given.workers, overwrite=given.overwrite
        )
    )


def print_report(report: "ShardsOfShards") -> None:
    """What was written, and how many samples were skipped for which cause."""
    say(f"{report.samples:,} samples in {report.shards:,} shards; skipped {len(report.skipped):,}")
    for cause, count in report.causes.items():
        say(f"{count:10,}  {cause}")
