"""The file KEY.tokens of a sample: the image tokens of several views of one image, in place of the image.

safetensors: "values" [V, N, W] float16 or int8, with int8 "scales" [V, N] float32, "tower" uint8 [16], the hash of the
network that gave them, and "image" int64 [1], the hash of the image's file.
"""

from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from tcl.data.shards.bad_sample import BadSample
from tcl.data.tokens.stored_tokens import StoredTokens

NO_TOKENS = "no stored tokens"
DAMAGED = "truncated or damaged file of tokens"
OTHER_TOWER = "tokens of another tower"
OTHER_SHAPE = "tokens of another shape or type"
NOT_FINITE = "tokens that are not finite"
"""Causes of a bad sample."""

_EXPONENT = 0x7C00
"""Of a float16: all ones in what is infinite or no number."""


class SampleTokens(NamedTuple):
    """What a file holds."""

    tokens: StoredTokens
    """Values [V, N, W], scales [V, N]."""
    identity: int
    """0 to 2^63 - 1, equal for views of the same image."""


def pack_tokens(file: SampleTokens, tower: str) -> bytes:
    """`file` as bytes; tower: 32 hexadecimal digits."""
    values, scales = file.tokens.values, file.tokens.scales
    own = {"values": values.contiguous()} | ({} if scales is None else {"scales": scales.contiguous()})
    identity = torch.tensor([file.identity])
    return save(own | {"tower": torch.tensor(list(bytes.fromhex(tower)), dtype=torch.uint8), "image": identity})


def unpack_tokens(content: bytes, tower: str, shape: tuple[int, int, int], dtype: torch.dtype) -> SampleTokens:
    """The file in `content`, whose values have `shape` (V, N, W) and `dtype`. BadSample: not so."""
    try:
        found = load(content)
        values, of_tower, identity = found["values"], found["tower"], int(found["image"])
    except Exception as error:  # of safetensors, or of torch where types or lengths are odd
        raise BadSample(DAMAGED) from error
    if of_tower.dtype != torch.uint8 or bytes(of_tower.tolist()).hex() != tower:
        raise BadSample(OTHER_TOWER)
    scales = found.get("scales")
    scaled = None if scales is None else (scales.dtype, tuple(scales.shape))
    if (values.dtype, tuple(values.shape)) != (dtype, shape) or scaled != _scales_of(shape, dtype) or identity < 0:
        raise BadSample(OTHER_SHAPE)
    if not _is_finite(values if scales is None else scales):
        raise BadSample(NOT_FINITE)
    return SampleTokens(StoredTokens(values, scales), identity)


def _scales_of(shape: tuple[int, int, int], dtype: torch.dtype) -> tuple[torch.dtype, tuple[int, int]] | None:
    return (torch.float32, shape[:2]) if dtype == torch.int8 else None


def _is_finite(numbers: Tensor) -> bool:
    if numbers.dtype == torch.float16:  # as integers, which a CPU compares many at a time
        bits = numbers.numpy().view(np.uint16)
        return not ((bits & _EXPONENT) == _EXPONENT).any()
    return bool(torch.isfinite(numbers).all())
