"""Hybrid contrast (HCQ, arXiv 2202.03384, section 3.5): queries as they are find partners as their codes have them.

With similarities s of a level between B queries and C candidates, own one first, temperature tau,

    InfoNCE   = mean over b of log(e^{s_bb / tau} + sum over c != b of e^{s_bc / tau}) - s_bb / tau
    quantised = InfoNCE(text raw -> image quantised) + InfoNCE(image raw -> text quantised)
    plain     = the same of both as they are
    loss      = (1 - w) quantised + w plain,   w = cos(pi e / 2 T) in epoch e = 1 ... T

averaged over the levels: 1 / (1 + L) the coarse one, L / (1 + L) the mean of the L fine ones. Levels are compared with
themselves only.
"""

import math

import torch
from torch import Tensor


def plain_share(epoch: int, epochs: int) -> float:
    """w above, 1 to 0, of epoch 0 ... epochs; later ones are as the last."""
    return math.cos(math.pi * min(epoch, epochs) / (2 * epochs))


def level_similarities(queries: Tensor, candidates: Tensor) -> Tensor:
    """Unit rows [B, V, D] and [C, V, D] -> cosines [V, B, C] of the same level."""
    return torch.einsum("bvd,cvd->vbc", queries, candidates)


def debiased_contrast(
    similarities: Tensor,
    own: Tensor,
    temperature: float,
    prior: float = 0.0,
    left_out: Tensor | None = None,
) -> Tensor:
    """InfoNCE of each level: cosines [V, B, C], int64 [B] the column of each query's own candidate -> [V].

    prior, 0 <= p < 1: how many of the others are right ones in fact; their share is taken from the sum over the others,
    which N of them cannot bring below N e^{-1 / tau} (Chuang et al. 2020, equation 8). left_out: bool [B, C],
    candidates that are neither right nor wrong; never the own one.
    """
    logits = similarities / temperature
    columns = torch.arange(logits.shape[2], device=logits.device)
    wrong = columns != own[:, None]
    if left_out is not None:
        wrong = wrong & ~left_out
    right = logits.gather(2, own[None, :, None].expand(len(logits), -1, 1)).squeeze(2)
    highest = torch.maximum(logits.masked_fill(~wrong, -torch.inf).amax(dim=2), right).detach()
    others = (logits - highest[..., None]).exp().masked_fill(~wrong, 0.0).sum(dim=2)
    of_right = (right - highest).exp()
    count = wrong.sum(dim=1)
    others = (others - prior * count * of_right) / (1 - prior)
    others = torch.maximum(others, count * (-1 / temperature - highest).exp())
    return ((of_right + others).log() + highest - right).mean(dim=1)
