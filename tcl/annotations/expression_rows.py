"""The rows of expressions about images, which say where in them something is: one for each image."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tcl.annotations.row import NO_IMAGE_KEY, Row, id_key, is_whole_id
from tcl.data.boxes import NOT_A_BOX, box_problem
from tcl.data.texts.sample_texts import EMPTY_CAPTION

TEXT_NOT_TEXT = "expression is not text"
NO_BOX = 'no "box", which others have'
"""Causes of a skipped row."""


@dataclass(frozen=True)
class Said:
    """An expression as a file has it; whatever is not in the file is None."""

    where: str
    image: object = None
    """Path."""
    text: object = None
    box: object = None
    id: object = None
    image_id: object = None
    height: object = None
    width: object = None
    proposals: object = None
    problem: str | None = None
    """Why it cannot be used, where that is known already."""


@dataclass
class _OfImage:
    first: Said
    captions: list[str] = field(default_factory=list)
    ids: list[Any] = field(default_factory=list)
    boxes: list[Any] = field(default_factory=list)
    proposals: list = field(default_factory=list)


def rows_of_images(said: Iterable[Said], proposals: dict[str, list]) -> Iterator[Row]:
    """A row for each image with all that is said of it, and one for each expression that cannot be used.

    Without any box in the file there are none in the rows: they are to train on. proposals: boxes to choose from, by
    image id or path, beside those of the file.
    """
    listed = list(said)
    boxes_needed = any(one.box is not None for one in listed)
    images: dict[str, _OfImage] = {}
    named: set[str] = set()
    bad = []
    for one in listed:
        problem = one.problem or _problem(one, boxes_needed)
        if problem is not None:
            bad.append(Row(one.where, one.image if isinstance(one.image, str) and one.image else None, problem=problem))
            continue
        of_image = images.setdefault(one.image, _OfImage(one))
        of_image.captions.append(one.text)
        of_image.ids.append(_unused(one, named))
        of_image.boxes.append(one.box)
        of_image.proposals = of_image.proposals or _boxes_of(one, proposals)
    yield from (_row(path, of_image, boxes_needed) for path, of_image in images.items())
    yield from bad


def _problem(one: Said, boxes_needed: bool) -> str | None:
    if not isinstance(one.image, str) or not one.image:
        return NO_IMAGE_KEY
    if not isinstance(one.text, str | None):
        return TEXT_NOT_TEXT
    if one.text is None or not one.text.strip():
        return EMPTY_CAPTION
    if not boxes_needed:
        return None
    return NO_BOX if one.box is None else box_problem(one.box, *_size(one).values())


def _size(one: Said) -> dict[str, int]:
    """Height and width, where the file has both."""
    sides = {"height": one.height, "width": one.width}
    whole = all(isinstance(side, int) and not isinstance(side, bool) and 0 < side < 2**20 for side in sides.values())
    return sides if whole else {}


def _unused(one: Said, named: set[str]) -> int | str:
    """The expression's id, or where it stands; with a number where that is taken."""
    name = one.id if is_whole_id(one.id) else one.where
    number = 0
    while id_key(name) in named:
        number += 1
        name = f"{one.id if is_whole_id(one.id) else one.where}#{number}"
    named.add(id_key(name))
    return name


def _boxes_of(one: Said, proposals: dict[str, list]) -> list:
    given = one.proposals if isinstance(one.proposals, list) else []
    found = [None if box_problem(box) == NOT_A_BOX else box for box in given]  # null is counted in the evaluation
    keys = (str(key) for key in (one.image_id, one.image) if is_whole_id(key))
    return found or next((proposals[key] for key in keys if key in proposals), [])


def _row(path: str, of_image: _OfImage, with_boxes: bool) -> Row:
    first = of_image.first
    sample: dict[str, Any] = {"captions": of_image.captions, "caption_ids": of_image.ids}
    if with_boxes:
        sample |= {"boxes": of_image.boxes, "proposals": of_image.proposals} | _size(first)
    sample["image"] = path
    if is_whole_id(first.image_id):
        sample["image_id"] = first.image_id
    return Row(first.where, path, sample)
