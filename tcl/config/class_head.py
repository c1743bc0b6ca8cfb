"""The head of an image classifier, and the loss by which it learns."""

import math
from dataclasses import dataclass
from typing import Literal

from tcl.config.checks import require

HeadLoss = Literal["softmax", "circle", "am_softmax"]
PUBLISHED: dict[str, tuple[float, float]] = {"circle": (0.25, 256.0), "am_softmax": (0.35, 30.0)}
"""Margin and scale of faces: Sun et al. 2020, table 1; Wang et al. 2018, section 4."""


@dataclass
class ClassHeadConfig:
    """A score for each class from the image's global token."""

    loss: HeadLoss = "softmax"
    """softmax: a linear layer and cross-entropy; circle: circle loss (Sun et al. 2020) on cosines to a learned weight
    for each class; am_softmax: cross-entropy of such cosines with an additive margin (Wang et al. 2018)."""
    margin: float | None = None
    """Of circle and am_softmax, by how much the right class has to win, 0 to 1. None: as published, 0.25 and 0.35."""
    scale: float | None = None
    """Of circle and am_softmax, by which cosines are multiplied, > 0. None: as published, 256 and 30."""

    @property
    def margin_and_scale(self) -> tuple[float, float]:
        """With the published ones where none are given; 0 and 1 of softmax, which has neither."""
        margin, scale = PUBLISHED.get(self.loss, (0.0, 1.0))
        return (margin if self.margin is None else self.margin), (scale if self.scale is None else self.scale)


def check_class_head(head: ClassHeadConfig) -> None:
    """InputError: the first impossible value."""
    for name in ("margin", "scale"):
        value = getattr(head, name)
        has_one = head.loss in PUBLISHED or value is None
        require(has_one, f"head.{name}", value, f"null, unless head.loss is {' or '.join(PUBLISHED)}")
    margin, scale = head.margin_and_scale
    require(0 <= margin <= 1, "head.margin", margin, "0 to 1")
    require(0 < scale < math.inf, "head.scale", scale, "a number > 0")
