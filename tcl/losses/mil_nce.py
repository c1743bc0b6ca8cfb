"""Contrast of clips with several captions each, some of which may not fit (MIL-NCE, arXiv 1912.06430; MMV, arXiv
2006.16228); of one caption each it is NCE, as between video and sound.

With s(v, t) = v . t / temperature, P(i) the captions of clip i,

    loss_i = -log( sum over t in P(i) of e^s(v_i, t) / (
                     sum over all captions t of e^s(v_i, t)  +  sum over all clips v, t in P(i) of e^s(v, t) ) ),

one fraction for both directions. The sums count the own captions twice, as the published code does, which makes log 2
the least loss; as the formula is meant they count once. A clip without captions has no loss, and is a negative still.

Both sums are of one matrix [B, C K], whose columns come some at a time and again in the backward pass: memory
O(B + C K).
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

ELEMENTS = 2**20
"""Of the matrix at a time: 4 MiB."""

MISSING = -1e30
"""Added to logits that count for nothing; finite, for where none count."""

Positives = Literal["twice", "once"]


def mil_nce(
    clips: Tensor,
    captions: Tensor,
    exist: Tensor,
    temperature: float,
    positives: Positives = "twice",
    first: int = 0,
    over_processes: Callable[[Tensor], Tensor] = lambda sums: sums,
    there: Tensor | None = None,
) -> Tensor:
    """Mean over the clips that have captions, 0 where none has: scalar, fp32 or, of fp64, fp64.

    clips [B, D], captions [C, K, D], bool exist [C, K], temperature > 0. Captions first ... first + B - 1 are those of
    the clips. Of several processes each gives its own clips and the captions of all: over_processes makes of log-sums
    [C, K] over its clips those over the clips of all, and the mean of what the processes get is that of all clips.
    there: bool [B], where clips (sounds in their place) may be missing: those that are have no captions in `exist`, and
    are no negatives.
    """
    (B, _), (C, K, _) = clips.shape, captions.shape
    scaled, captions = _whole(clips) / temperature, _whole(captions)
    without = None if positives == "twice" else torch.arange(first, first + B, device=clips.device)
    missing = None if there is None else MISSING * (~there).to(scaled.dtype)
    rows, columns = _LogSums.apply(scaled, captions.flatten(0, 1), exist.flatten(), without, K, missing)
    own = slice(first, first + B)
    has_captions = exist[own].any(dim=1)
    counts = exist[own] | ~has_captions[:, None]  # all of them where there are none, to stay finite
    right = _log_sum(torch.einsum("bd,bkd->bk", scaled, captions[own]), counts)
    of_captions = _log_sum(over_processes(columns.unflatten(0, (C, K)))[own], counts)
    losses = torch.logaddexp(rows, of_captions) - right
    valid = exist.any(dim=1).sum().clamp(min=1)
    return torch.where(has_captions, losses, 0 * right).sum() / valid * (C / B)


def _log_sum(logits: Tensor, counts: Tensor) -> Tensor:
    return logits.masked_fill(~counts, -torch.inf).logsumexp(dim=1)


class _LogSums(torch.autograd.Function):
    """log sum over captions of e^{clip . caption} [B], and over clips [N]."""

    @staticmethod
    def forward(
        ctx, clips: Tensor, captions: Tensor, exist: Tensor, without: Tensor | None, K: int, missing: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """clips [B, D], captions [N, D], bool exist [N]; without [B]: of which K captions a clip takes no sum; missing
        [B]: added to a clip's logits in the sums over clips."""
        highest = clips.new_full((len(clips), 1), torch.finfo(clips.dtype).min)
        total, columns = torch.zeros_like(highest), clips.new_empty(len(captions))
        for part in _parts(clips, captions):
            logits = clips @ captions[part].T
            columns[part] = _over_clips(logits, missing).logsumexp(dim=0)
            logits.masked_fill_(_left_out(exist, without, K, part), -torch.inf)
            higher = torch.maximum(highest, logits.amax(dim=1, keepdim=True))
            total.mul_((highest - higher).exp_()).add_(logits.sub_(higher).exp_().sum(dim=1, keepdim=True))
            highest = higher
        rows = (highest + total.log()).squeeze(1)
        ctx.save_for_backward(clips, captions, exist, without, missing, rows, columns)
        ctx.K = K
        return rows, columns

    @staticmethod
    @once_differentiable
    def backward(ctx, of_rows: Tensor, of_columns: Tensor) -> tuple[Tensor | None, ...]:
        clips, captions, exist, without, missing, rows, columns = ctx.saved_tensors
        rows = rows.masked_fill(rows == -torch.inf, 0.0)  # of no captions: all that follows is 0
        clip_gradient, caption_gradient = torch.zeros_like(clips), torch.empty_like(captions)
        for part in _parts(clips, captions):
            logits = clips @ captions[part].T
            weights = (_over_clips(logits, missing) - columns[part]).exp_().mul_(of_columns[part])
            logits.masked_fill_(_left_out(exist, without, ctx.K, part), -torch.inf)
            weights.addcmul_(logits.sub_(rows[:, None]).exp_(), of_rows[:, None])
            clip_gradient.addmm_(weights, captions[part])
            caption_gradient[part] = weights.T @ clips
        return clip_gradient, caption_gradient, None, None, None, None


def _parts(clips: Tensor, captions: Tensor) -> list[slice]:
    step = max(1, ELEMENTS // len(clips))
    return [slice(start, start + step) for start in range(0, len(captions), step)]


def _over_clips(logits: Tensor, missing: Tensor | None) -> Tensor:
    return logits if missing is None else logits + missing[:, None]


def _left_out(exist: Tensor, without: Tensor | None, K: int, part: slice) -> Tensor:
    """bool [B or 1, captions of the part]."""
    missing = ~exist[None, part]
    if without is None:
        return missing
    clip = torch.arange(part.start, min(part.stop, len(exist)), device=exist.device) // K
    return missing | (clip == without[:, None])


def nce(clips: Tensor, sounds: Tensor, exist: Tensor, temperature: float, **rest: object) -> Tensor:
    """The same of one each: sounds [C, D], bool exist [C]."""
    return mil_nce(clips, sounds[:, None], exist[:, None], temperature, **rest)


def unit(embeddings: Tensor) -> Tensor:
    """[..., D] of any length -> rows of length 1, fp32 or fp64."""
    return F.normalize(_whole(embeddings), dim=-1)


def _whole(embeddings: Tensor) -> Tensor:
    return embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
