"""Scenes of coloured shapes with true captions, as webdataset shards: the data of `make demo`.

    python tools/make_demo_data.py --out demo/data [--train 20000 --val 500 --seed 0 --image_size 64 --workers 2]

A scene holds one or two objects, each with a shape, a colour, a size and a cell of a 3 x 3 grid. Some combinations of
shape and colour never occur in training: every second validation scene shows one, so a model that learned whole
pictures by heart fails there. A scene is a function of (seed, split, index) alone.
"""

import io
import json
import random
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from itertools import product
from math import cos, pi, sin
from pathlib import Path

import jsonargparse
from PIL import Image, ImageDraw

from tcl.data.seeding import seed_of
from tcl.data.shard_writer import ShardWriter
from tcl.errors import InputError

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (245, 215, 40),
    "purple": (140, 50, 170),
    "orange": (245, 135, 30),
    "cyan": (60, 205, 220),
    "brown": (120, 75, 40),
}
BACKGROUNDS = {"white": (250, 250, 250), "black": (15, 15, 15), "gray": (150, 150, 150)}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
RADIUS = {"small": 0.095, "large": 0.155}
"""Of the picture's side."""
REACH = {"star": 1.07, "triangle": 1.07}
"""How far a shape extends, in radii; 1 for the others."""
MAX_OFFSET = 0.01
"""Of an object in its cell, share of the side."""
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "center", "right")
SUPERSAMPLING = 4
HELD_OUT_SHARE = 0.1
SHARD_SIZE = 1000


@dataclass(frozen=True)
class Object:
    """One shape; `row` and `column` (0 to 2) are its cell, `dx` and `dy` its offset in the cell (share of the side)."""

    shape: str
    colour: str
    size: str
    row: int
    column: int
    dx: float
    dy: float

    @property
    def description(self) -> tuple[str, str, str, int, int]:
        """What a full caption says of it."""
        return self.size, self.colour, self.shape, self.row, self.column


@dataclass(frozen=True)
class Scene:
    """Objects on a plain background, in reading order of their cells."""

    background: str
    objects: tuple[Object, ...]

    @property
    def description(self) -> tuple:
        """What a full caption says, without the background."""
        return tuple(thing.description for thing in self.objects)


@lru_cache
def held_out_pairs(seed: int) -> frozenset[tuple[str, str]]:
    """(shape, colour) pairs that training never shows."""
    pairs = list(product(SHAPES, COLOURS))
    return frozenset(random.Random(seed_of(seed, "held out")).sample(pairs, round(HELD_OUT_SHARE * len(pairs))))


def draw_scene(seed: int, split: str, index: int) -> Scene:
    """Scene `index` of the split ('train' or 'val').

    Validation scenes have two objects, and every second one at least one held-out pair. Which scenes belong to
    which split is decided by their description, so none is in both.
    """
    held_out = held_out_pairs(seed)
    wants_held_out = split == "val" and index % 2 == 0
    rng = random.Random(seed_of(seed, split, index))
    while True:
        scene = _draw_objects(rng, count=2 if split == "val" else rng.choice((1, 2, 2, 2, 2)))
        pairs = {(thing.shape, thing.colour) for thing in scene.objects}
        if bool(pairs & held_out) != wants_held_out:
            continue
        if _belongs_to_val(seed, scene) == (split == "val"):
            return scene


def _draw_objects(rng: random.Random, count: int) -> Scene:
    cells = sorted(rng.sample(range(9), count))
    objects = tuple(_draw_object(rng, cell) for cell in cells)
    return Scene(rng.choice(list(BACKGROUNDS)), objects)


def _draw_object(rng: random.Random, cell: int) -> Object:
    shape, colour, size = rng.choice(SHAPES), rng.choice(list(COLOURS)), rng.choice(list(RADIUS))
    # An object that left its cell could touch its neighbour or the picture's edge.
    room = min(MAX_OFFSET, 1 / 6 - RADIUS[size] * REACH.get(shape, 1.0))
    return Object(shape, colour, size, cell // 3, cell % 3, dx=rng.uniform(-room, room), dy=rng.uniform(-room, room))


def _belongs_to_val(seed: int, scene: Scene) -> bool:
    return seed_of(seed, "split", *(str(part) for thing in scene.description for part in thing)) % 5 == 0


def render(scene: Scene, size: int) -> Image.Image:
    """The scene as an RGB image of size x size pixels."""
    side = size * SUPERSAMPLING
    image = Image.new("RGB", (side, side), BACKGROUNDS[scene.background])
    draw = ImageDraw.Draw(image)
    for thing in scene.objects:
        x, y = side * (thing.column + 0.5 + 3 * thing.dx) / 3, side * (thing.row + 0.5 + 3 * thing.dy) / 3
        _draw_shape(draw, thing.shape, x, y, side * RADIUS[thing.size], COLOURS[thing.colour])
    return image.reduce(SUPERSAMPLING)


def _draw_shape(
    draw: ImageDraw.ImageDraw, shape: str, x: float, y: float, r: float, fill: tuple[int, int, int]
) -> None:
    def polygon(corners: int, turn: float, radii: tuple[float, ...]) -> None:
        points = []
        for i in range(corners):
            angle, radius = turn + 2 * pi * i / corners, r * radii[i % len(radii)]
            points.append((x + radius * sin(angle), y - radius * cos(angle)))
        draw.polygon(points, fill=fill)

    if shape == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)
    elif shape == "ring":
        draw.ellipse((x - r, y - r, x + r, y + r), outline=fill, width=round(0.4 * r))
    elif shape == "square":
        draw.rectangle((x - 0.85 * r, y - 0.85 * r, x + 0.85 * r, y + 0.85 * r), fill=fill)
    elif shape == "triangle":
        polygon(3, 0.0, (REACH[shape],))
    elif shape == "star":
        polygon(10, 0.0, (REACH[shape], 0.43))
    else:
        arm = 0.33 * r
        draw.rectangle((x - r, y - arm, x + r, y + arm), fill=fill)
        draw.rectangle((x - arm, y - r, x + arm, y + r), fill=fill)


def full_caption(scene: Scene, rng: random.Random) -> str:
    """Names every object with size, colour, shape and place."""
    things = list(scene.objects)
    rng.shuffle(things)
    return " and ".join(f"{t.size} {t.colour} {t.shape} {place(t)}" for t in things)


def place(thing: Object) -> str:
    """'top left', 'top center', 'middle right', ..."""
    return f"{ROWS[thing.row]} {COLUMNS[thing.column]}"


def relation_caption(scene: Scene, rng: random.Random) -> str:
    """Where one object lies as seen from another, along an axis on which their cells differ."""
    a, b = rng.sample(scene.objects, 2)
    relations = []
    if a.column != b.column:
        relations.append("left of" if a.column < b.column else "right of")
    if a.row != b.row:
        relations.append("above" if a.row < b.row else "below")
    return f"{a.size} {a.colour} {a.shape} {rng.choice(relations)} {b.size} {b.colour} {b.shape}"


def counting_caption(scene: Scene, rng: random.Random) -> str:
    """How many objects there are, their colours and shapes, and the background."""
    things = list(scene.objects)
    rng.shuffle(things)
    number = ("one shape", "two shapes")[len(things) - 1]
    return f"{number} on {scene.background}: " + ", ".join(f"{t.colour} {t.shape}" for t in things)


def captions(scene: Scene, rng: random.Random) -> list[str]:
    """True captions for training: six full ones, one that counts and, of two objects, one that relates them."""
    made = [full_caption(scene, rng) for _ in range(6)] + [counting_caption(scene, rng)]
    return [*made, relation_caption(scene, rng)] if len(scene.objects) > 1 else made


def make_sample(index: int, seed: int, split: str, image_size: int) -> tuple[str, dict[str, bytes], tuple]:
    """(key, files of the shard, the scene's description)."""
    scene = draw_scene(seed, split, index)
    rng = random.Random(seed_of(seed, split, index, "captions"))
    texts = [full_caption(scene, rng)] if split == "val" else captions(scene, rng)
    png = io.BytesIO()
    render(scene, image_size).save(png, "PNG", compress_level=1)
    text = json.dumps({"captions": texts, "scene": asdict(scene)})
    return f"{index:09d}", {"png": png.getvalue(), "json": text.encode()}, scene.description


def make_demo_data(
    out: Path,
    train: int = 20000,
    val: int = 500,
    seed: int = 0,
    image_size: int = 64,
    workers: int = 2,
    overwrite: bool = False,
) -> None:
    """Write OUT/train and OUT/val; does nothing where the same arguments made OUT before.

    train, val: number of scenes, >= 1. image_size: side in pixels, >= 16. workers: processes, >= 1.
    overwrite: replace demo data made with other arguments. InputError: an impossible value, more validation scenes than
    there are, an OUT that holds something else or cannot be written.
    """
    for name, value, least in (
        ("train", train, 1),
        ("val", val, 1),
        ("image_size", image_size, 16),
        ("workers", workers, 1),
    ):
        if value < least:
            raise InputError(f"{name}: {value} is not possible; accepted: an integer >= {least}")
    made_with = {"train": train, "val": val, "seed": seed, "image_size": image_size}
    record = out / "demo_data.json"
    if _read_record(record) == made_with:
        print(f"{out} is there already")
        return
    if out.exists() and not (overwrite and record.is_file()):
        way_out = "add --overwrite" if record.is_file() else "remove it or name another folder"
        raise InputError(f"out: {out} exists and was not made with {made_with}; {way_out}")
    try:
        _write(out, made_with, workers)
    except OSError as error:
        raise InputError(f"out: {out} cannot be written ({error.strerror}); name another folder") from error
    print(f"{out}: {train} training and {val} validation scenes")


def _read_record(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _write(out: Path, made_with: dict[str, int], workers: int) -> None:
    """All files of OUT; it replaces what is there only when it is complete."""
    partial_out = out.with_name(out.name + ".partial")
    shutil.rmtree(partial_out, ignore_errors=True)
    with ProcessPoolExecutor(workers) as pool:
        for split in ("train", "val"):
            count = made_with[split]
            make = partial(make_sample, seed=made_with["seed"], split=split, image_size=made_with["image_size"])
            seen = set()
            indices = range(2 * count if split == "val" else count)
            with ShardWriter(partial_out / split, shard_size=SHARD_SIZE) as writer:
                for key, files, description in pool.map(make, indices, chunksize=250):
                    # Two validation scenes with one description would have two right answers.
                    if split == "val" and (description in seen or len(seen) == count):
                        continue
                    seen.add(description)
                    writer.write(key, files)
            if split == "val" and len(seen) < count:
                raise InputError(f"val: {count} is not possible; among {2 * count} scenes only {len(seen)} differ")
    (partial_out / "demo_data.json").write_text(json.dumps(made_with))
    if out.exists():
        shutil.rmtree(out)
    partial_out.rename(out)


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description="Generate the demo's scenes as webdataset shards.")
    parser.add_function_arguments(make_demo_data, skip={"overwrite"})
    parser.add_argument("--overwrite", action="store_true", help="replace demo data made with other arguments")
    arguments = parser.parse_args()
    try:
        make_demo_data(**vars(arguments))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
