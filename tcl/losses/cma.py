"""Cross-modal alignment: an image finds its text, and a text its image, among the batch and the queue.

TCL section 3.1 (equations 1 to 3), with ALBEF's momentum distillation (ALBEF equation 6) as the soft targets.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_targets(teacher_logits: Tensor, alpha: float, first: int = 0, positives: Tensor | None = None) -> Tensor:
    """y = alpha * softmax(teacher_logits) + (1 - alpha) * positives.

    teacher_logits [B, C]: the teacher's own similarities over temperature. positives [B, C], rows sum to 1; without
    them the one positive of row b is column first + b. alpha 0..1 -> [B, C], rows sum to 1.
    """
    targets = alpha * teacher_logits.softmax(dim=1)
    if positives is None:
        targets.diagonal(offset=first).add_(1 - alpha)
        return targets
    return targets.add_(positives, alpha=1 - alpha)


def shared_id_positives(ids: Tensor, candidate_ids: Tensor) -> Tensor:
    """Every candidate with a sample's own id is right, all alike: ids [B], candidate_ids [C] -> [B, C], rows sum to 1.

    Each id must be among the candidates (ALBEF section 3.5, fine-tuning on retrieval).
    """
    same = (ids[:, None] == candidate_ids[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)


def cross_modal_alignment(logits: Tensor, targets: Tensor | None, first: int = 0) -> Tensor:
    """Cross-entropy of `logits` [B, C] (similarity over temperature) against `targets` [B, C], mean over B.

    Without targets the positive of row b is column first + b.
    """
    if targets is None:
        targets = torch.arange(first, first + len(logits), device=logits.device)
    return F.cross_entropy(logits, targets)
