"""Images with a class to evaluate on."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from tcl.config.data import DataConfig
from tcl.data.images.decode_image import decode_image, image_bytes
from tcl.data.sets.streamed_set import StreamedSet
from tcl.data.texts.label import LabelReader


@dataclass
class LabelledImages:
    """Some images of a set."""

    pixels: Tensor
    """[B, 3, H, W]."""
    labels: list[int]
    """Places in the list of classes."""


def labelled_set(
    config: DataConfig,
    classes: list[str],
    transform: Callable[[np.ndarray], Tensor],
    max_samples: int | None = None,
) -> StreamedSet[LabelledImages]:
    """The samples of config.val's shards, or the first max_samples (>= 1) of them, with a label out of `classes`.

    transform: decoded image -> pixels. InputError: as `open_shards`.
    """
    label_of = LabelReader(classes)
    read = partial(_read, label_of=label_of, transform=transform, max_pixels=config.max_pixels)
    return StreamedSet(config, read, _collate, max_samples)


def _read(
    fields: dict[str, bytes],
    key: str,
    *,
    label_of: LabelReader,
    transform: Callable[[np.ndarray], Tensor],
    max_pixels: int,
) -> tuple[int, Tensor]:
    """Its label and pixels [3, H, W]. BadSample: unusable."""
    label = label_of(fields)
    return label, transform(decode_image(image_bytes(fields), max_pixels=max_pixels))


def _collate(examples: list[tuple[int, Tensor]]) -> LabelledImages:
    labels, pixels = zip(*examples, strict=True)
    return LabelledImages(torch.stack(pixels), list(labels))
