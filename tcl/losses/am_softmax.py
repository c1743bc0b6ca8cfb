"""Additive-margin softmax (Wang et al., "Additive Margin Softmax for Face Verification", 2018, equation 6).

    -log( e^{gamma (cos_y - m)} / (e^{gamma (cos_y - m)} + sum over c != y of e^{gamma cos_c}) )

over the cosines of a feature to one learned weight for each class c, y the right one: it has to win by a margin m.
"""

from torch import Tensor
from torch.nn import functional as F


def am_softmax(cosines: Tensor, labels: Tensor, margin: float, scale: float) -> Tensor:
    """Cosines [B, C] and the right class of each row, int64 [B] in 0 .. C - 1 -> mean over the rows, fp32.

    margin >= 0, 0.35 as published; scale gamma > 0, 30 as published. Call it outside of autocast.
    """
    margins = margin * F.one_hot(labels, cosines.shape[1])
    return F.cross_entropy(scale * (cosines.float() - margins), labels)
