"""What the loader hands to the training step."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


@dataclass
class Batch:
    """B samples on one device: what encoders are to take of them, by modality."""

    keys: list[str]
    """'<shard name>/<sample key>' of each sample, for tests and messages."""
    inputs: dict[str, Any]
    """By the name of the modality, a dataclass of tensors with a row for each sample, which has a method describe():
    `tcl.data.images.image_views.Images`, `tcl.data.texts.text_tokens.Texts`."""
    ids: Tensor | None = None
    """[B] int64 >= 0: samples with equal ids show the same thing, and each other's partners are right for them. None:
    every sample is taken for itself."""
    present: dict[str, Tensor] = field(default_factory=dict)
    """bool [B] for each modality that some samples lack: their rows of its input hold anything and count for
    nothing. A modality that is not named here is there in all of them."""
    notices: list[tuple[str, str]] = field(default_factory=list)
    """(cause, key) of what was noted of samples that are used nevertheless, such as silence; it counts against none."""

    def __len__(self) -> int:
        return len(self.keys)

    def describe(self) -> str:
        """A phrase for the person watching."""
        return ", ".join(f"{name} {given.describe()}" for name, given in self.inputs.items())


def map_tensors(value: T, function: Callable[[Tensor], Tensor]) -> T:
    """A batch, or a part of one, with `function` applied to each of its tensors."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {name: map_tensors(inner, function) for name, inner in value.items()}
    if is_dataclass(value):
        own = {field.name: map_tensors(getattr(value, field.name), function) for field in fields(value)}
        return replace(value, **own)
    return value


def to_device(batch: Batch, device: torch.device | str) -> Batch:
    """`batch` on `device`; from pinned memory the copy does not wait."""
    return map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))


def inputs_to(batch: Batch, dtype: torch.dtype) -> Batch:
    """`batch` with what encoders multiply by their weights, floats of three or more dimensions, in `dtype`."""

    def convert(tensor: Tensor) -> Tensor:
        return tensor.to(dtype) if tensor.ndim >= 3 and tensor.is_floating_point() else tensor

    return replace(batch, inputs=map_tensors(batch.inputs, convert))
