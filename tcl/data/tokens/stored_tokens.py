"""Image tokens as they are kept for matching: in fp16, or in int8 with a scale for each token."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tcl.errors import InputError

Storage = Literal["fp16", "int8"]
LARGEST_INT8 = 127


@dataclass(frozen=True)
class StoredTokens:
    """Tokens of any leading shape; indexing and stacking are those of the two tensors."""

    values: Tensor
    """[..., N, W], float16 or int8."""
    scales: Tensor | None
    """[..., N], float32: what 1 of an int8 value is worth; None for float16."""


def store_tokens(tokens: Tensor, storage: Storage) -> StoredTokens:
    """tokens: [..., N, W]. Each int8 value is off by at most half its token's scale, which is the token's largest
    absolute value / 127. InputError: a value that is not finite, or beyond fp16's range where that is the storage."""
    largest = torch.finfo(torch.float16).max if storage == "fp16" else torch.finfo(torch.float32).max
    beyond = ~(tokens.abs() <= largest)
    if beyond.any():
        value = tokens[beyond][0].item()
        raise InputError(f"tokens: {value} cannot be stored as {storage}; finite values of at most {largest:g} can")
    if storage == "fp16":
        return StoredTokens(tokens.half(), None)
    scales = tokens.float().abs().amax(-1) / LARGEST_INT8
    steps = tokens.float() / scales.clamp(min=torch.finfo(torch.float32).tiny)[..., None]
    return StoredTokens(steps.round().clamp(-LARGEST_INT8, LARGEST_INT8).to(torch.int8), scales)


def restore_tokens(stored: StoredTokens, dtype: torch.dtype = torch.float32) -> Tensor:
    """[..., N, W]."""
    values = stored.values.to(dtype)
    return values if stored.scales is None else values * stored.scales[..., None].to(dtype)
