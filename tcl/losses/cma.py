"""Cross-modal alignment: an image finds its text, and a text its image, among the batch and the queue.

TCL section 3.1 (equations 1 to 3), with ALBEF's momentum distillation (ALBEF equation 6) as the soft targets: those of
a sample are alpha * softmax(the teacher's logits) + (1 - alpha) * its positives.
"""

import torch
from torch import Tensor

from tcl.losses.contrast import Candidates, contrast, softmax_mean


@torch.no_grad()
def expected_candidates(
    teacher_features: Tensor, candidates: Candidates, positives: Tensor, temperature: Tensor, alpha: float
) -> Tensor:
    """The mean candidate under the soft targets.

    teacher_features [B, D], positives [B, D] (the right candidate of each sample, or the mean of several), temperature
    scalar > 0, alpha 0..1 -> [B, D].
    """
    if alpha == 0:
        return positives
    return positives.lerp(softmax_mean(teacher_features, candidates, temperature), alpha)


def shared_id_positives(ids: Tensor, candidate_ids: Tensor) -> Tensor:
    """Every candidate with a sample's own id is right, all alike: ids [B], candidate_ids [C] -> [B, C], rows sum to 1.

    Each id must be among the candidates (ALBEF section 3.5, fine-tuning on retrieval).
    """
    same = (ids[:, None] == candidate_ids[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)


def cross_modal_alignment(features: Tensor, expected: Tensor, candidates: Candidates, temperature: Tensor) -> Tensor:
    """Cross-entropy of one modality's `features` [B, D] against the soft targets over the other's candidates.

    expected [B, D] from `expected_candidates`, temperature scalar > 0. Mean over B.
    """
    return contrast(features, expected, candidates, temperature)
