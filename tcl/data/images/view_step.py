"""One step on the way to an augmented view."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Step(NamedTuple):
    """One operation of `tcl.data.images.image_operations` and the values it takes: operation(pixels, *values)."""

    operation: Callable[..., np.ndarray]
    values: tuple = ()
