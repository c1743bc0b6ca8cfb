"""Questions about the demo's scenes, each with one right answer from a closed list.

Question i of a split is a function of (seed, split, i) and of the scene that it is about: i, or of N scenes i modulo N.
"""

import io
import json
import random
from dataclasses import dataclass
from itertools import combinations

from tcl.data.seeding import seed_of
from tools.demo_scenes import (
    BACKGROUNDS,
    COLOURS,
    COLUMNS,
    RADIUS,
    ROWS,
    SHAPES,
    Object,
    Scene,
    draw_scene,
    held_out_pairs,
    place,
    render,
)

NUMBERS = ("none", "one", "two")
PLACES = tuple(f"{row} {column}" for row in ROWS for column in COLUMNS)
ANSWERS = tuple(sorted({*COLOURS, *BACKGROUNDS, *SHAPES, *PLACES, *RADIUS, *NUMBERS, "yes", "no"}))
"""Every answer there can be, none twice."""
VALUES = {"size": tuple(RADIUS), "color": tuple(COLOURS), "shape": SHAPES, "place": PLACES}
"""Of every attribute, in the order in which a phrase names them."""
WORDING = {
    "color": "what color is the {}",
    "shape": "what shape is {}",
    "place": "where is the {}",
    "size": "how big is the {}",
}
"""By the attribute asked for; {} names the object by others."""
KINDS = (*WORDING, "count", "yes_no", "background")

Named = dict[str, str]
"""Some attributes of an object, by the keys of VALUES."""
Pairs = frozenset[tuple[str, str]]
"""Of shape and colour."""


@dataclass(frozen=True)
class Question:
    """`kind` is one of KINDS, `answer` one of ANSWERS."""

    kind: str
    text: str
    answer: str


def draw_question(seed: int, split: str, index: int, about: int | None = None) -> Question:
    """Question `index` of the split ('train' or 'val'), about draw_scene(seed, split, about), by default the scene of
    the same number; all kinds as frequent.

    Training never names a held-out pair of shape and colour: all it could say of one is that it is not there.
    """
    scene = draw_scene(seed, split, index if about is None else about)
    unnamed = held_out_pairs(seed) if split == "train" else frozenset()
    rng = random.Random(seed_of(seed, split, index, "question"))
    while True:
        kind = rng.choice(KINDS)
        asked = _ask(kind, scene, unnamed, rng)
        if asked is not None:
            return Question(kind, *asked)


def make_question_sample(
    index: int, seed: int, split: str, image_size: int, scenes: int
) -> tuple[str, dict[str, bytes]]:
    """(key, files of the shard) of question `index` about one of the split's first `scenes` scenes."""
    about = index % scenes
    question = draw_question(seed, split, index, about)
    png = io.BytesIO()
    render(draw_scene(seed, split, about), image_size).save(png, "PNG", compress_level=1)
    text = {
        "question": question.text,
        "answers": [question.answer],
        "question_id": index,
        "question_type": question.kind,
    }
    return f"{index:09d}", {"png": png.getvalue(), "json": json.dumps(text).encode()}


def _ask(kind: str, scene: Scene, unnamed: Pairs, rng: random.Random) -> tuple[str, str] | None:
    """Text and answer; None where the scene allows no such question."""
    if kind == "background":
        return "what color is the background", scene.background
    if kind == "count":
        return _ask_count(scene, rng)
    if kind == "yes_no":
        return _ask_yes_no(scene, unnamed, rng)
    references = _unique_references(scene, without=kind)
    if not references:  # the place of one of two objects that are equal in all else
        return None
    thing, named = rng.choice(references)
    phrase = " and ".join(named.values()) if kind == "shape" else _phrase(named)
    return WORDING[kind].format(phrase), _attributes(thing)[kind]


def _ask_count(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """How many objects there are, or how many have an attribute that at least every second time one of them has."""
    name = rng.choice((None, "size", "color", "shape"))
    if name is None:
        return "how many shapes are there", NUMBERS[len(scene.objects)]
    shown = [_attributes(thing)[name] for thing in scene.objects]
    named = {name: rng.choice(shown if rng.random() < 0.5 else VALUES[name])}
    plural = _phrase(named) + ("es" if named.get("shape") == "cross" else "s")
    return f"how many {plural} are there", NUMBERS[_count(scene, named)]


def _ask_yes_no(scene: Scene, unnamed: Pairs, rng: random.Random) -> tuple[str, str]:
    """Whether an object is there: one that is, or one that differs from it in a single attribute and is not."""
    answer = rng.choice(("yes", "no"))
    thing = _attributes(rng.choice(scene.objects))
    true = {name: thing[name] for name in ("color", "shape", *rng.choice(((), ("size",), ("place",))))}
    named = true
    while (_count(scene, named) > 0) != (answer == "yes") or (named["shape"], named["color"]) in unnamed:
        changed = rng.choice(list(true))
        named = {**true, changed: rng.choice(VALUES[changed])}
    phrase = _phrase(named)
    return f"is there {'an' if phrase[0] in 'aeiou' else 'a'} {phrase}", answer


def _attributes(thing: Object) -> Named:
    return {"size": thing.size, "color": thing.colour, "shape": thing.shape, "place": place(thing)}


def _count(scene: Scene, named: Named) -> int:
    """Objects that have all the attributes named."""
    return sum(named.items() <= _attributes(thing).items() for thing in scene.objects)


def _phrase(named: Named) -> str:
    """'large red circle', 'red shape top left', ..."""
    words = {"shape": "shape", **named}
    return " ".join(words[name] for name in VALUES if name in words)


def _unique_references(scene: Scene, without: str) -> list[tuple[Object, Named]]:
    """All ways to name exactly one object by one or more attributes other than `without`."""
    others = [name for name in VALUES if name != without]
    choices = [names for count in range(1, len(others) + 1) for names in combinations(others, count)]
    pairs = [
        (thing, {name: _attributes(thing)[name] for name in names}) for thing in scene.objects for names in choices
    ]
    return [(thing, named) for thing, named in pairs if _count(scene, named) == 1]
