"""The demo's scenes: one or two coloured shapes on a plain background.

Every object has a shape, a colour, a size and a cell of a 3 x 3 grid. Some combinations of shape and colour never
occur in training: every second validation scene shows one, so a model that learned whole pictures by heart fails
there. A scene is a function of (seed, split, index) alone.
"""

import random
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import cos, pi, sin

from PIL import Image, ImageDraw

from tcl.data.seeding import seed_of

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
        draw_object(draw, thing, side, COLOURS[thing.colour])
    return image.reduce(SUPERSAMPLING)


def draw_object(draw: ImageDraw.ImageDraw, thing: Object, side: int, fill: tuple[int, int, int] | int) -> None:
    """One object, into a picture of side x side pixels."""
    x, y = side * (thing.column + 0.5 + 3 * thing.dx) / 3, side * (thing.row + 0.5 + 3 * thing.dy) / 3
    _draw_shape(draw, thing.shape, x, y, side * RADIUS[thing.size], fill)


def _draw_shape(
    draw: ImageDraw.ImageDraw, shape: str, x: float, y: float, r: float, fill: tuple[int, int, int] | int
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


def place(thing: Object) -> str:
    """'top left', 'top center', 'middle right', ..."""
    return f"{ROWS[thing.row]} {COLUMNS[thing.column]}"
