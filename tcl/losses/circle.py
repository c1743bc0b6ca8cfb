"""Circle loss (Sun et al., CVPR 2020): pairs that are far from where they should be count more.

    softplus( logsumexp_n gamma [s_n + m]+ (s_n - m) + logsumexp_p -gamma [1 + m - s_p]+ (s_p - (1 - m)) )

over the similarities s_n of wrong and s_p of right pairs, with a margin m and a scale gamma. The weights [.]+ have no
gradient. One formula serves labels of pairs (image ids), of classes (cosines to learned weights), and all pairs of a
batch in one row: what differs is which similarities stand in a row, and which of them are right.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

LOWEST = -1e30
"""In place of the exponent of what is not there: -inf would have no gradient."""


def circle_loss(similarities: Tensor, right: Tensor, wrong: Tensor, margin: float, scale: float) -> Tensor:
    """Similarities [R, C], cosines, and which of them are right and wrong, bool [R, C] -> loss of each row, fp32 [R].

    margin 0 to 1: 0.25 for faces, 0.4 for fine-grained retrieval; scale > 0: 80 to 256. A row without a right or
    without a wrong pair costs 0. Exponents reach scale (1 + margin)^2, which e^x of fp32 cannot hold: call it outside
    of autocast.

    The value may rise while training goes well: a wrong pair below -margin adds e^0, one at 0 almost nothing.
    """
    s = similarities.float()
    towards = scale * (1 + margin - s.detach()).clamp(min=0) * (1 - margin - s)
    away = scale * (s.detach() + margin).clamp(min=0) * (s - margin)
    exponents = [
        torch.where(which, values, LOWEST).logsumexp(dim=1) for which, values in ((right, towards), (wrong, away))
    ]
    return F.softplus(sum(exponents))


def mean_of_rows(losses: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
    """The mean of losses [R] over the rows with a right and a wrong pair, bool [R, C] each; 0 without any."""
    counts = right.any(dim=1) & wrong.any(dim=1)
    return torch.where(counts, losses, 0.0).sum() / counts.sum().clamp(min=1)
