"""Cross-entropy with the right class and with what the teacher says: momentum distillation of a classifier (ALBEF,
section 3.4)."""

from torch import Tensor
from torch.nn import functional as F


def soft_label_cross_entropy(logits: Tensor, labels: Tensor, teacher: Tensor | None, alpha: float) -> Tensor:
    """(1 - alpha) CE with the labels + alpha CE with the teacher, mean over the rows; scalar fp32.

    logits [B, C], labels [B], teacher [B, C]: its probabilities (None: labels only), alpha 0 to 1.
    """
    log_probabilities = logits.float().log_softmax(dim=1)
    loss = F.nll_loss(log_probabilities, labels)
    if teacher is None:
        return loss
    return (1 - alpha) * loss - alpha * (teacher * log_probabilities).sum(dim=1).mean()
