"""Phrases that name one shape of the demo's scenes, and where it is, as webdataset shards for the task grounding.

    python -m tools.demo_grounding --out demo/grounding [--train 10000 --val 500 --seed 0 --image_size 48]

OUT/train, OUT/val: KEY.png and KEY.json with captions, boxes and proposals: the boxes of all shapes of the scene. A
phrase names the shape, and perhaps size and colour, so that it fits no other shape of the scene, and never a place;
training never reads the boxes. Scenes are those of tools.make_demo_data with the same seed: those of val are held out
of its training, too.
"""

import io
import json
import random
import shutil
import sys
from itertools import combinations
from pathlib import Path

import jsonargparse
from PIL import Image, ImageDraw

from tcl.data.seeding import seed_of
from tcl.data.shards.shard_writer import ShardWriter
from tcl.errors import InputError
from tcl.shown import say, shown
from tools.demo_scenes import SUPERSAMPLING, Object, Scene, draw_object, draw_scene, render

ATTRIBUTES = ("size", "colour", "shape")
"""In the order in which a phrase names them."""


def box_of(thing: Object, size: int) -> tuple[float, float, float, float]:
    """x, y, width, height of an object in a scene of size x size pixels, to a quarter of a pixel: as it is drawn."""
    alone = Image.new("1", (size * SUPERSAMPLING, size * SUPERSAMPLING))
    draw_object(ImageDraw.Draw(alone), thing, alone.width, 1)
    left, top, right, bottom = (value / SUPERSAMPLING for value in alone.getbbox())
    return left, top, right - left, bottom - top


def phrases(scene: Scene) -> list[tuple[Object, str]]:
    """All ways to name one object alone by some of its ATTRIBUTES, its shape always among them."""
    found = []
    for thing in scene.objects:
        for names in (names for count in (1, 2, 3) for names in combinations(ATTRIBUTES, count) if "shape" in names):
            same = [one for one in scene.objects if all(getattr(one, name) == getattr(thing, name) for name in names)]
            if same == [thing]:
                found.append((thing, " ".join(getattr(thing, name) for name in names)))
    return found


def make_sample(index: int, seed: int, split: str, image_size: int) -> tuple[str, dict[str, bytes]] | None:
    """(key, files of the shard) with one phrase for each object that has any; None: no object has."""
    scene = draw_scene(seed, split, index)
    rng = random.Random(seed_of(seed, split, index, "phrases"))
    named = phrases(scene)
    chosen = [(thing, rng.choice(own)) for thing in scene.objects if (own := [t for o, t in named if o is thing])]
    if not chosen:
        return None
    png = io.BytesIO()
    render(scene, image_size).save(png, "PNG", compress_level=1)
    text = {
        "captions": [phrase for _, phrase in chosen],
        "caption_ids": [f"{split} {index} {i}" for i in range(len(chosen))],
        "boxes": [box_of(thing, image_size) for thing, _ in chosen],
        "proposals": [box_of(thing, image_size) for thing in scene.objects],
        "height": image_size,
        "width": image_size,
    }
    return f"{index:09d}", {"png": png.getvalue(), "json": json.dumps(text).encode()}


def make_demo_grounding(
    out: Path, train: int = 10000, val: int = 500, seed: int = 0, image_size: int = 48, overwrite: bool = False
) -> None:
    """Write all of OUT. train, val: scenes, >= 1; those of two equal shapes are left out. image_size: side in pixels,
    >= 16. InputError: an impossible value, an OUT that is there, without overwrite, or cannot be written."""
    for name, value, least in (("train", train, 1), ("val", val, 1), ("image_size", image_size, 16)):
        if value < least:
            raise InputError(f"{name}: {value} is not possible; accepted: an integer >= {least}")
    if out.exists() and not overwrite:
        raise InputError(f"out: {out} is there already; name another folder or add --overwrite")
    unfinished = out.with_name(out.name + ".partial")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        for split, count in (("train", train), ("val", val)):
            with ShardWriter(unfinished / split, shard_size=1000) as writer:
                for sample in (make_sample(i, seed, split, image_size) for i in range(count)):
                    if sample is not None:
                        writer.write(*sample)
        shutil.rmtree(out, ignore_errors=True)
        unfinished.rename(out)
    except OSError as error:
        raise InputError(f"out: {out} cannot be written ({error.strerror}); name another folder") from error
    say(f"{out}: phrases about {train} training and {val} validation scenes")


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description="Phrases about the demo's scenes, with boxes, as shards.")
    parser.add_function_arguments(make_demo_grounding, skip={"overwrite"})
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")
    try:
        make_demo_grounding(**vars(parser.parse_args()))
    except InputError as error:
        print(f"error: {shown(str(error))}", file=sys.stderr)
        sys.exit(2)
