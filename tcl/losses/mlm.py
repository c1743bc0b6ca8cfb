"""Masked language modelling: name the hidden words from the rest of the text and the image.

TCL section 3.4, with ALBEF's momentum distillation (ALBEF equation 7).
"""

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def soft_labels(teacher_logits: Tensor, labels: Tensor, alpha: float) -> Tensor:
    """alpha * softmax(teacher_logits) + (1 - alpha) * onehot(labels).

    teacher_logits [M, V], labels [M], alpha 0..1 -> [M, V].
    """
    targets = teacher_logits.float().softmax(dim=-1).mul_(alpha)
    return targets.scatter_add_(1, labels[:, None], torch.full_like(targets[:, :1], 1 - alpha))


def masked_language_modelling(logits: Tensor, targets: Tensor, count: Tensor | None = None) -> Tensor:
    """Cross-entropy, mean over the M masked positions; none costs 0.

    logits [M, V], targets: labels [M], or soft ones [M, V] whose rows sum to 1. `count` (scalar) divides the sum
    instead of M.
    """
    loss = F.cross_entropy(logits.float(), targets, reduction="sum")
    return loss / (max(len(logits), 1) if count is None else count.clamp(min=1).to(loss.dtype))
