"""Which two images of a batch a text is shown, and which of them is its own: text assignment (ALBEF, section 5)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tcl.losses.itm import LEFT_OUT

TEMPERATURE = 0.07
"""By which similarities are divided, whatever temperature contrast has learned."""
FIRST, SECOND, NEITHER = 0, 1, 2
"""Classes: which of the two images is the text's own."""


@dataclass
class Assignments:
    """Of each text of a batch, each [B]."""

    first: Tensor
    """The image of the batch that it is shown first."""
    second: Tensor
    """The one that it is shown second."""
    labels: Tensor
    """FIRST, SECOND or NEITHER; LEFT_OUT where there are no two other images."""


def assignment_weights(features: Tensor, ids: Tensor | None = None) -> Tensor:
    """Weights [B, B] by which other images are drawn for each text: the more similar to its own, the likelier.

    features [B, D], unit vectors of the images: softmax of the rows of their cosines over TEMPERATURE, 0 for the
    image itself, so that rows do not sum to 1. ids [B]: images with equal ones show the same thing, and are none of
    each other's others; None: each shows something of its own.
    """
    features = features.float()
    weights = (features @ features.T / TEMPERATURE).softmax(dim=1)
    ids = torch.arange(len(features), device=features.device) if ids is None else ids
    return weights.masked_fill(ids[:, None] == ids[None, :], 0.0)


@torch.no_grad()
def draw_assignments(weights: Tensor) -> Assignments:
    """Each class with probability 1/3, its other image or images by `weights` [B, B], two without replacement."""
    B, device = len(weights), weights.device
    own = torch.arange(B, device=device)
    # A race of exponential clocks: its winner is a draw by weight, its first two are two draws without replacement.
    clocks = torch.where(weights > 0, torch.empty_like(weights).exponential_() / weights, torch.inf)
    (one, other), wanted = clocks.topk(2, dim=1, largest=False).indices.T, torch.rand(B, device=device)
    labels = (wanted * 3).long().clamp(max=NEITHER)
    first = torch.where(labels == FIRST, own, one)
    second = torch.where(labels == FIRST, one, torch.where(labels == SECOND, own, other))
    enough = (weights > 0).sum(dim=1) >= 2
    return Assignments(first, second, labels.where(enough, LEFT_OUT))
