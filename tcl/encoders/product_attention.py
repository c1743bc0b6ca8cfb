"""Attention on a CPU as products of matrices, which keeps as little for the backward pass as a fused kernel does.

torch's fused kernel of a CPU does not use its bf16 units. Products do, but keep the weights of every pair of tokens;
here these are computed again in the backward pass, some rows at a time, while they are in the cache.
"""

import math
from collections.abc import Iterator

import torch
from timm.layers import Attention
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from tcl.encoders.dropout import STEPS, draw_kept

BLOCK = 3 * 2**19
"""Weights that are computed at a time: 3 MiB in bf16."""


def computes_in_bf16(x: Tensor) -> bool:
    """Are products with x, on a CPU, in bf16?"""
    autocast = torch.is_autocast_enabled("cpu")
    return x.device.type == "cpu" and torch.bfloat16 == (torch.get_autocast_dtype("cpu") if autocast else x.dtype)


def as_products_take(x: Tensor) -> Tensor:
    """x in the precision of products: where several layers look at it, none has to make and keep a copy of its own."""
    kind = x.device.type
    autocast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return x.to(torch.get_autocast_dtype(kind)) if autocast else x


def product_attention(
    queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """softmax(queries keys^T / sqrt(h)) values, of R rows: queries [R, heads, L, h], keys and values [R, heads, N, h].

    mask bool, broadcast to [R, heads, L, N], True where there is something to see; a query that sees nothing looks at
    everything alike. dropout 0..1, of the weights.
    """
    dtype = torch.bfloat16 if computes_in_bf16(queries) else values.dtype
    keep, scale = _draw((*queries.shape[:3], keys.shape[2]), dropout, queries.device)
    if mask is not None:
        mask = mask[(None,) * (4 - mask.ndim)].expand(len(queries), -1, -1, -1)
    with torch.autocast("cpu", enabled=False):
        return _ProductAttention.apply(queries.to(dtype), keys.to(dtype), values.to(dtype), mask, keep, scale)


def _draw(shape: tuple[int, ...], dropout: float, device: torch.device) -> tuple[Tensor | None, float]:
    """Which weights stay, None: all; and what they are multiplied by."""
    if round(dropout * STEPS) in (0, STEPS):
        return None if dropout < 0.5 else torch.zeros(shape, dtype=torch.bool, device=device), 1.0
    return draw_kept(shape, dropout, device)


class _ProductAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None,
        keep: Tensor | None,
        scale: float,
    ) -> Tensor:
        # As they are given: others keep the same memory.
        ctx.save_for_backward(queries, keys, values, mask, keep)
        ctx.scale = scale
        attended = queries.new_empty(queries.shape)
        for rows in _blocks(queries, keys):
            weights = _weights(_scaled(queries, rows), _flat(keys[rows]), _part(mask, rows))
            torch.bmm(_dropped(weights, _part(keep, rows), scale), _flat(values[rows]), out=_flat(attended[rows]))
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, upstream: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, mask, keep = ctx.saved_tensors
        gradients = tuple(tensor.new_empty(tensor.shape) for tensor in (queries, keys, values))
        for rows in _blocks(queries, keys):
            q, kept = _scaled(queries, rows), _part(keep, rows)
            k, v, seen = (_flat(tensor[rows]) for tensor in (keys, values, upstream))
            to_q, to_k, to_v = (_flat(gradient[rows]) for gradient in gradients)
            weights = _weights(q, k, _part(mask, rows))
            torch.bmm(_dropped(weights, kept, ctx.scale).transpose(1, 2), seen, out=to_v)
            to_weights = _dropped(torch.bmm(seen, v.transpose(1, 2)), kept, ctx.scale)
            # Of a softmax: weights * (gradient - the sum of weights * gradient over what is looked at).
            to_scores = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype)
            torch.bmm(to_scores, k, out=to_q)
            torch.bmm(to_scores.transpose(1, 2), q, out=to_k)
        return gradients[0].div_(math.sqrt(queries.shape[-1])), *gradients[1:], None, None, None


def _blocks(queries: Tensor, keys: Tensor) -> Iterator[slice]:
    """Rows at a time, at least one."""
    rows, heads, length = queries.shape[:3]
    size = max(1, BLOCK // (heads * length * keys.shape[2]))
    return (slice(first, first + size) for first in range(0, rows, size))


def _part(tensor: Tensor | None, rows: slice) -> Tensor | None:
    return None if tensor is None else tensor[rows]


def _flat(x: Tensor) -> Tensor:
    """[R, heads, ...] -> [R heads, ...], one behind the other; of what is so already, a view."""
    return x.reshape(-1, *x.shape[2:])


def _scaled(queries: Tensor, rows: slice) -> Tensor:
    """Those of `rows`, flat, over the root of their length."""
    return _flat(queries[rows] / math.sqrt(queries.shape[-1]))


def _weights(queries: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled queries [R heads, L, h], keys [R heads, N, h], mask as of `product_attention` -> [R heads, L, N], sum 1
    over N."""
    scores = torch.bmm(queries, keys.transpose(1, 2))
    if mask is not None:
        scores.unflatten(0, (len(mask), -1)).masked_fill_(~mask, torch.finfo(scores.dtype).min)
    return scores.softmax(dim=-1)


def _dropped(weights: Tensor, keep: Tensor | None, scale: float) -> Tensor:
    return weights if keep is None else weights * _flat(keep).to(weights.dtype).mul_(scale)


class ProductAttention(Attention):
    """timm's attention of a ViT, by `product_attention` where that is faster."""

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """x [B, N, width] -> the same shape. attn_mask bool, broadcast to [B, heads, N, N]."""
        masked = attn_mask is not None and attn_mask.dtype != torch.bool
        if masked or is_causal or not (self.fused_attn and computes_in_bf16(x)) or getattr(self, "gate", None):
            return super().forward(x, attn_mask, is_causal)
        split = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        queries, keys, values = split.unbind(0)
        dropout = self.attn_drop.p if self.training else 0.0
        attended = product_attention(self.q_norm(queries), self.k_norm(keys), values, attn_mask, dropout)
        return self.proj_drop(self.proj(self.norm(attended.transpose(1, 2).flatten(2))))


def use_product_attention(network: nn.Module) -> None:
    """Put `ProductAttention` in place of timm's wherever it is within `network`, with its weights."""
    for module in network.modules():
        if type(module) is Attention:
            module.__class__ = ProductAttention
