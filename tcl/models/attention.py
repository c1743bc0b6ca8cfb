"""Scaled dot-product attention, by what is fastest for the device."""

import math

from torch import Tensor, finfo
from torch.nn import functional as F

from tcl.encoders.product_attention import computes_in_bf16, product_attention


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """softmax(queries keys^T / sqrt(h)) values, of R rows: queries [R, heads, L, h], keys and values [R, heads, N, h].

    mask bool, broadcast to [R, heads, L, N], True where there is something to see; dropout 0..1, of the weights.
    """
    # On a CPU torch has no fused kernel with dropout: it would take fp32 copies and look for rows without any key.
    if computes_in_bf16(queries) or (queries.device.type == "cpu" and dropout > 0):
        return product_attention(queries, keys, values, mask, dropout)
    return F.scaled_dot_product_attention(queries, keys, values, mask, dropout)


def attention_weights(queries: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
    """How much each query looks at each key, which fused kernels do not show: as above -> [R, heads, L, N], sum 1."""
    scores = (queries / math.sqrt(queries.shape[-1])) @ keys.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, finfo(scores.dtype).min)
    return scores.softmax(dim=-1)
