"""Clips of a square of one of three colours that moves one of four ways, with a caption that says so."""

import json
from pathlib import Path

import numpy as np
from data_files import write_tar
from media_files import film

COLOURS = {"red": (220, 40, 40), "green": (40, 160, 60), "blue": (40, 80, 220)}
WAYS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
"""Rows and columns a frame."""
KINDS = [(colour, way) for colour in COLOURS for way in WAYS]
FRAMES, SIDE, STEP = 3, 32, 8


def clip(colour: str, way: str, place: int) -> bytes:
    """Opposite ways show the same frames in reverse order; `place`, 0 to 16, is across the way."""
    moves, frames = WAYS[way], []
    for frame in range(FRAMES):
        pixels = np.full((SIDE, SIDE, 3), 128, np.uint8)
        along = 4 + STEP * (frame if sum(moves) > 0 else FRAMES - 1 - frame)
        row, column = (along, place) if moves[0] else (place, along)
        pixels[row : row + 12, column : column + 12] = COLOURS[colour]
        frames.append(pixels)
    return film(frames, options={"crf": "10"})


def moving_squares(path: Path, count: int, first: int = 0) -> str:
    """A shard of `count` clips, of each kind in turn; `first` + their number says where they are."""
    entries = []
    for i in range(count):
        colour, way = KINDS[i % len(KINDS)]
        said = json.dumps({"caption": f"a {colour} square moves {way}"}).encode()
        place = 2 + (first + 5 * (i // len(KINDS))) % 16
        entries += [(f"{i:04d}.mp4", clip(colour, way, place)), (f"{i:04d}.json", said)]
    return str(write_tar(path, entries))
