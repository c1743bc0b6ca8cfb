"""What some losses learn beside the networks' weights."""

import math
from typing import NamedTuple


class LossParameter(NamedTuple):
    """A number that a loss learns, and the range to which it is clamped before every use.

    A student keeps it as a parameter of shape [1] of its own, outside of all its modules. That is how it is told from
    the networks' weights: whoever loads weights may do without it, or with another loss' (`is_loss_parameter`).
    """

    low: float = -math.inf
    high: float = math.inf


def is_loss_parameter(name: str) -> bool:
    """Is `name`, in the state of a student, that of something which a loss learns?"""
    return "." not in name
