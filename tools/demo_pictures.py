"""Held-out scenes of the demo to be looked at: larger than the model reads them, as files. `make demo` indexes them."""

import random
from pathlib import Path

from PIL import Image

from tcl.data.seeding import seed_of
from tools.demo_scenes import draw_scene, render
from tools.make_demo_data import full_caption

SIDE = 256
"""Pixels; an index keeps no more of a picture."""
DESCRIPTION = 0x010E
"""The tag of EXIF that an index takes for a caption."""


def draw_pictures(folder: Path, count: int, seed: int = 0) -> None:
    """Scenes 0 to `count` - 1 of the split 'val' as 0000.png, 0001.png, ..., each with its full caption; those that are
    there already are left."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        path = folder / f"{index:04d}.png"
        if path.exists():
            continue
        scene = draw_scene(seed, "val", index)
        exif = Image.Exif()
        exif[DESCRIPTION] = full_caption(scene, random.Random(seed_of(seed, "val", index, "captions")))
        render(scene, SIDE).save(path, exif=exif, compress_level=1)
