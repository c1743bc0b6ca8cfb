"""Masked language modelling: name the hidden words from the rest of the text and the image.

TCL section 3.4, with ALBEF's momentum distillation (ALBEF equation 7).
"""

from torch import Tensor
from torch.nn import functional as F


def masked_language_modelling(
    logits: Tensor,
    labels: Tensor,
    teacher_probabilities: Tensor | None,
    alpha: float,
    count: Tensor | None = None,
) -> Tensor:
    """(1 - alpha) * CE(logits, labels) + alpha * CE(logits, teacher_probabilities), mean over the M masked positions.

    logits [M, V], labels [M], teacher_probabilities [M, V] (softmax over the vocabulary; None: labels only). No masked
    position costs 0. `count` (scalar) divides the sum instead of M.
    """
    log_probabilities = logits.float().log_softmax(dim=-1)
    loss = F.nll_loss(log_probabilities, labels, reduction="sum")
    if teacher_probabilities is not None:
        loss = (1 - alpha) * loss - alpha * (teacher_probabilities * log_probabilities).sum()
    return loss / (max(len(labels), 1) if count is None else count.clamp(min=1).to(loss.dtype))
