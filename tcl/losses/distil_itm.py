"""Matching learned from a teacher that sees more: its ITM logits as soft labels (EDJE, arXiv 2510.06820, section 3).

With p the teacher's probabilities of "no match" and "match" for a pair, and q the student's,

    loss = mean over pairs of sum_c p_c (log p_c - log q_c),

the Kullback-Leibler divergence: 0 where both say the same, and the gradient of cross-entropy with soft labels.
"""

from torch import Tensor

from tcl.losses.itm import LEFT_OUT


def matching_distillation(logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the rows that count, scalar; none costs 0. logits and teacher_logits [R, 2], labels [R] as in ITM."""
    log_q, log_p = (both.float().log_softmax(dim=1) for both in (logits, teacher_logits))
    counts = labels != LEFT_OUT
    divergence = (log_p.exp() * (log_p - log_q)).sum(dim=1)
    return (divergence * counts).sum() / counts.sum().clamp(min=1)
