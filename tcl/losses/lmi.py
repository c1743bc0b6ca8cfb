"""Local mutual information: the global feature of a sample against its own parts and those of the other samples.

TCL section 3.3 (equation 6). For sample b and its part j

    loss(b, j) = -log( e^s(b,b,j) / (e^s(b,b,j) + sum over c != b and all j' of e^s(b,c,j')) ),
    s(b, c, j) = global_b . local_(c,j) / temperature.

The negatives do not depend on j, so one logsumexp per sample serves all its parts: O(B^2 M) memory.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def pool_regions(patches: Tensor, grid: tuple[int, int], regions: int) -> Tensor:
    """Average image patches to regions x regions cells (adaptive: works for any grid).

    patches [B, T * rows * columns, D] row by row, grid (rows, columns) -> [B, regions^2, D]: of a clip of T frames,
    which come one after the other, each cell over all of them.
    """
    planes = patches.unflatten(1, (-1, grid[0] * grid[1])).mean(dim=1).transpose(1, 2).unflatten(2, grid)
    return F.adaptive_avg_pool2d(planes, regions).flatten(2).transpose(1, 2)


def local_mutual_information(
    global_features: Tensor,
    local_features: Tensor,
    temperature: Tensor,
    mask: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """Mean over a sample's own parts, then over the samples that have any.

    global_features [B, D], local_features [C, M, D] with C >= first + B: the parts of sample b are row first + b, all
    other rows are its negatives. temperature scalar > 0, mask [C, M] (1 part, 0 padding; default: no padding). Padding
    is neither a positive nor a negative.
    """
    B = len(global_features)
    C, M, _ = local_features.shape
    if mask is None:
        mask = torch.ones(C, M, dtype=torch.bool, device=local_features.device)
    mask = mask.bool()

    s_BxCxM = (global_features @ local_features.flatten(0, 1).T / temperature).unflatten(1, (C, M))
    own_BxM = s_BxCxM.diagonal(offset=first, dim1=0, dim2=1).T
    own_sample = torch.eye(C, dtype=torch.bool, device=mask.device)[first : first + B]
    negatives_B = s_BxCxM.masked_fill(own_sample[:, :, None] | ~mask, -torch.inf).flatten(1).logsumexp(dim=1)
    loss_BxM = torch.logaddexp(own_BxM, negatives_B[:, None]) - own_BxM

    own_mask = mask[first : first + B]
    parts_B = own_mask.sum(dim=1)
    loss_B = loss_BxM.masked_fill(~own_mask, 0.0).sum(dim=1) / parts_B.clamp(min=1)
    return loss_B.sum() / (parts_B > 0).sum().clamp(min=1)
