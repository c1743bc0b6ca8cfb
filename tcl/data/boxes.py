"""Boxes in an image: x, y, width, height in pixels, from the upper left corner; they may reach over the border."""

Box = tuple[float, float, float, float]

NOT_A_BOX = "box is not four numbers: x, y, width, height"
NO_AREA = "box of no area"
OUTSIDE = "box outside of the image"
"""Causes of a box that cannot be used."""

MOST = 2**31
"""Pixels: no image is larger."""


def box_problem(box: object, height: int | None = None, width: int | None = None) -> str | None:
    """Why `box`, from JSON or a person, is none; None: it can be used. Without height and width a box may lie
    anywhere."""
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(_is_number(value) for value in box):
        return NOT_A_BOX
    x, y, w, h = box
    if w <= 0 or h <= 0:
        return NO_AREA
    if x + w <= 0 or y + h <= 0 or (width is not None and x >= width) or (height is not None and y >= height):
        return OUTSIDE
    return None


def as_box(values: list | tuple) -> Box:
    """Of one that has no `box_problem`."""
    x, y, w, h = map(float, values)
    return x, y, w, h


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST  # NaN is not
