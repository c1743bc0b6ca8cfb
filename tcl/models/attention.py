"""Scaled dot-product attention, by the kernel that is fastest for the device."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from tcl.encoders.dropout import dropout as drop


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """softmax(queries keys^T / sqrt(h)) values, of R rows: queries [R, heads, L, h], keys and values [R, heads, N, h].

    mask bool, broadcast to [R, heads, L, N], True where there is something to see; dropout 0..1, of the weights.
    """
    if queries.device.type != "cpu" or dropout == 0:
        return F.scaled_dot_product_attention(queries, keys, values, mask, dropout)
    # On a CPU torch has no fused kernel with dropout: it would take fp32 copies and look for rows without any key.
    return drop(attention_weights(queries, keys, mask), dropout) @ values


def attention_weights(queries: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
    """How much each query looks at each key, which fused kernels do not show: as above -> [R, heads, L, N], sum 1."""
    scores = (queries / math.sqrt(queries.shape[-1])) @ keys.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1)
