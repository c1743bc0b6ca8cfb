"""RandAugment with the operations, strengths and probability of the paper's code: none that destroys colour."""

import random
from collections.abc import Callable

from tcl.data.images import image_operations as op
from tcl.data.images.view_step import Step

APPLY_PROBABILITY = 0.5
"""Of each operation drawn, as in the published code."""
LARGEST_SHEAR = 0.3
LARGEST_SHIFT = 10
"""In pixels."""
LARGEST_ROTATION = 30
"""In degrees."""

OPERATIONS: dict[Callable, Callable[[float, int], tuple]] = {
    op.identity: lambda strength, sign: (),
    op.autocontrast: lambda strength, sign: (),
    op.equalize: lambda strength, sign: (),
    op.brightness: lambda strength, sign: (0.1 + 1.8 * strength,),
    op.sharpness: lambda strength, sign: (0.1 + 1.8 * strength,),
    op.shear_x: lambda strength, sign: (sign * LARGEST_SHEAR * strength,),
    op.shear_y: lambda strength, sign: (sign * LARGEST_SHEAR * strength,),
    op.translate_x: lambda strength, sign: (sign * round(LARGEST_SHIFT * strength),),
    op.translate_y: lambda strength, sign: (sign * round(LARGEST_SHIFT * strength),),
    op.rotate: lambda strength, sign: (sign * LARGEST_ROTATION * strength,),
}
"""Each operation, and the values that it takes at strength 0 to 1 in the direction of sign, 1 or -1."""


def draw_rand_augment(operations: int, magnitude: float, rng: random.Random) -> list[Step]:
    """`operations` (>= 0) draws, each taken with probability one half at strength `magnitude` (0 to 10; 0: none)."""
    steps = []
    for _ in range(operations if magnitude > 0 else 0):
        operation, values_at = rng.choice(tuple(OPERATIONS.items()))
        sign = rng.choice((-1, 1))
        if rng.random() < APPLY_PROBABILITY:
            steps.append(Step(operation, values_at(magnitude / 10, sign)))
    return steps
