"""The report page of a grounding evaluation: the worst misses, each image under its map with the boxes drawn on it."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tcl.data.images.decode_image import decode_image
from tcl.evaluation.ground_expressions import Grounded
from tcl.evaluation.overlay import draw_box, draw_point, overlay
from tcl.evaluation.page import Picture, picture_of, render, write_text

SIDE = 320
"""Pixels of the longer side; smaller images stay as they are."""
RIGHT, FOUND, POINT = "#35d07f", "#ff5a4f", "#4fc3ff"
"""Colours of the right box, of the box that was found, and of the maximum."""
ROWS = {
    "accuracy": "box (IoU of at least 0.5)",
    "blind_random": "box, a random proposal",
    "blind_largest": "box, the largest proposal",
    "pointing": "pointing (maximum of the map)",
    "blind_middle": "pointing, the middle of the image",
    "mean_iou": "mean IoU",
}


@dataclass(frozen=True)
class _Miss:
    text: str
    id: str
    iou: float
    pointed: bool
    blank: bool
    picture: Picture


def write_grounding_page(
    path: Path,
    found: Sequence[Grounded],
    metrics: dict[str, float],
    images: Sequence[bytes],
    shown: int,
    facts: dict[str, str],
) -> None:
    """One page that needs nothing else: the metrics, then the `shown` (>= 0) worst misses, those first whose box has
    the least IoU and, of equal ones, whose point is wrong.

    images: encoded, known to decode. facts: what else the page says of the evaluation, by label. InputError: a file
    that cannot be written.
    """
    misses = sorted((one for one in found if not one.right), key=lambda one: (one.iou, one.pointed))
    page = render(
        "grounding_page.html.jinja",
        rows={label: metrics[name] for name, label in ROWS.items()},
        count=len(found),
        misses=[_miss(one, images[one.expression.image]) for one in misses[:shown]],
        missed=len(misses),
        blank=int(metrics["blank"]),
        no_proposals=int(metrics["no_proposals"]),
        facts=facts,
        colours={"right": RIGHT, "found": FOUND, "point": POINT},
    )
    write_text(path, page)


def _miss(one: Grounded, content: bytes) -> _Miss:
    # Whoever read the images has applied data.max_pixels already.
    image = Image.fromarray(decode_image(content, max_pixels=sys.maxsize, min_side=SIDE))
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    drawn, size = overlay(image, one.heat), one.expression.size
    draw_box(drawn, one.expression.box, size, RIGHT, line=4)
    draw_box(drawn, one.located.box, size, FOUND)
    if one.located.point is not None:
        draw_point(drawn, one.located.point, size, POINT)
    return _Miss(one.expression.text, one.expression.id, one.iou, one.pointed, one.located.blank, picture_of(drawn))
