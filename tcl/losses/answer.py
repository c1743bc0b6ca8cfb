"""Answer generation: the decoder names each token of an answer from those before it (ALBEF section 3.5, VQA).

Every distinct answer of a question counts by the share of annotators who gave it. Momentum distillation as in MLM; the
published code takes the teacher's softmax over the positions of the sequence, ours over the vocabulary.
"""

from torch import Tensor
from torch.nn import functional as F


def answer_generation(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor,
    teacher_probabilities: Tensor | None,
    alpha: float,
    questions: int,
) -> Tensor:
    """Sum over M answer tokens of weight * ((1 - alpha) CE with the label + alpha CE with the teacher) / questions.

    logits [M, V], labels [M], weights [M] of the answers that the tokens belong to, teacher_probabilities [M, V] (None:
    labels only), alpha 0..1, questions >= 1: how many the batch holds.
    """
    log_probabilities = logits.float().log_softmax(dim=-1)
    loss_M = F.nll_loss(log_probabilities, labels, reduction="none")
    if teacher_probabilities is not None:
        soft_M = -(teacher_probabilities * log_probabilities).sum(dim=-1)
        loss_M = (1 - alpha) * loss_M + alpha * soft_M
    return (weights * loss_M).sum() / questions
