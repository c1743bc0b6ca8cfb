"""Images as a model of transformers takes them, by the image processor that lies beside it."""

from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor

from tcl.errors import InputError
from tcl.foreign.source import first_line
from tcl.hub_access import hub_or_cache

LONGEST = 16
"""Times its shorter side: of a longer image the middle is taken, where the processor would crop to a square anyhow.
Scaled by its shorter side first, one of 1 x 10,000 pixels would take all the memory."""

Transform = Callable[[np.ndarray], Tensor]
"""[H, W, 3] uint8 RGB -> pixels [3, height, width], as the network takes them; it can be pickled."""


def load_transform(source: str, revision: str | None, image_size: int | None) -> Transform:
    """image_size: the side of the squares that the network reads; None: it does not say.

    InputError: no image processor beside the model, or one whose images are not of that size, or not pixels alone.
    """
    with hub_or_cache(source) as silent:
        try:
            processor = AutoImageProcessor.from_pretrained(source, revision=revision, trust_remote_code=False)
        except Exception as error:  # transformers raises OSError, ValueError, ... with messages of many lines
            why = f"not in the local cache; {silent}" if silent else first_line(error)
            raise InputError(
                f"source: {source!r} has no image processor ({why}); save it beside the model, as "
                f"preprocessor_config.json"
            ) from error
    transform = partial(prepare, processor=processor)
    _check(transform, source, image_size)
    return transform


def prepare(pixels: np.ndarray, *, processor: Callable) -> Tensor:
    """[H, W, 3] uint8 RGB -> [3, height, width]."""
    if getattr(processor, "do_center_crop", False):
        pixels = _middle(pixels)
    return processor(images=Image.fromarray(pixels), return_tensors="pt")["pixel_values"][0]


def preparation(transform: Transform) -> str:
    """What a transform of `load_transform` does, as its processor spells it."""
    return transform.keywords["processor"].to_json_string()


def _middle(pixels: np.ndarray) -> np.ndarray:
    height, width, _ = pixels.shape
    most = LONGEST * min(height, width)
    top, left = max(0, height - most) // 2, max(0, width - most) // 2
    return np.ascontiguousarray(pixels[top : top + most, left : left + most])


def _check(transform: Transform, source: str, image_size: int | None) -> None:
    made = []
    for height, width in ((40, 60), (60, 40)):
        blank = np.zeros((height, width, 3), np.uint8)
        try:
            found = transform.keywords["processor"](images=Image.fromarray(blank), return_tensors="pt")
            made.append(tuple(transform(blank).shape))
        except Exception as error:  # of transformers and torchvision, whatever its file says
            raise InputError(
                f"source: the image processor of {source!r} cannot be used ({first_line(error)}); use the one that "
                f"belongs to these weights"
            ) from error
    if set(found) != {"pixel_values"} or made[0] != made[1] or len(made[0]) != 3:
        raise InputError(
            f"source: the image processor of {source!r} makes {', '.join(sorted(found))} of {list(made[0])} and "
            f"{list(made[1])}; accepted: pixel_values alone, of one size for all images"
        )
    if image_size is not None and made[0] != (3, image_size, image_size):
        raise InputError(
            f"source: the image processor of {source!r} makes images of {list(made[0])}, its network reads "
            f"{[3, image_size, image_size]}; use the one that belongs to these weights"
        )
