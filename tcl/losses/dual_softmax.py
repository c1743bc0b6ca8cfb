"""Dual Softmax Loss (CAMoE, Cheng et al. 2021, arXiv 2109.04290): contrast, with logits times a prior over the queries.

The prior of a candidate is the softmax of its logits over all queries: what is some other query's best candidate is
worth less. It is not detached, so the gradient of a row depends on all others.
"""

from torch import Tensor
from torch.nn import functional as F


def dual_softmax_logits(logits: Tensor, temperature: float) -> Tensor:
    """Q logits ∘ softmax(logits / temperature over the queries), of logits [Q, C].

    temperature > 0 divides logits: 1000, as published, makes the prior 1 / Q and changes nothing; 1 much.
    """
    return len(logits) * logits * F.softmax(logits / temperature, dim=0)


def dual_softmax_loss(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of `dual_softmax_logits` of each query: logits [Q, C] of all queries of the global batch, targets
    [Q, C], rows sum to 1 -> [Q], fp32: call it outside of autocast."""
    return -(targets * F.log_softmax(dual_softmax_logits(logits.float(), temperature), dim=1)).sum(dim=1)
