"""Masked language modelling: name the hidden words from the rest of the text and the image.

TCL section 3.4, with ALBEF's momentum distillation (ALBEF equation 7).
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

ROWS, ROWS_OF_GPU = 32, 512
"""Masked positions at a time: 4 MiB of fp32 logits over 30,522 words for a CPU's cache, 60 MiB for a GPU."""


def masked_language_modelling(
    logits: Tensor,
    labels: Tensor,
    teacher_logits: Tensor | None = None,
    alpha: float = 0.0,
    count: Tensor | None = None,
) -> Tensor:
    """Cross-entropy against the soft labels below, or `labels` alone; mean over the M masked positions, none costs 0.

    logits and teacher_logits [M, V], labels [M], alpha 0..1. `count` (scalar) divides the sum instead of M.
    """
    if teacher_logits is None:
        loss = F.cross_entropy(logits.float(), labels, reduction="sum")
    else:
        loss = _SoftCrossEntropy.apply(logits, labels, teacher_logits, alpha)
    return loss / (max(len(logits), 1) if count is None else count.clamp(min=1).to(loss.dtype))


def soft_labels(teacher_logits: Tensor, labels: Tensor, alpha: float) -> Tensor:
    """alpha * softmax(teacher_logits) + (1 - alpha) * onehot(labels).

    teacher_logits [M, V], labels [M], alpha 0..1 -> fp32 [M, V].
    """
    targets = teacher_logits.float().softmax(dim=-1).mul_(alpha)
    return targets.scatter_add_(1, labels[:, None], torch.full_like(targets[:, :1], 1 - alpha))


class _SoftCrossEntropy(torch.autograd.Function):
    """Summed over the positions, some at a time: of all the matrices [M, V] in fp32 that it takes, none exists whole.

    The gradient, softmax(logits) - soft labels, is known with the loss, and kept in the precision of the logits.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, labels: Tensor, teacher_logits: Tensor, alpha: float) -> Tensor:
        gradient = torch.empty_like(logits)
        loss = torch.zeros((), device=logits.device)
        at_once = ROWS if logits.device.type == "cpu" else ROWS_OF_GPU
        for start in range(0, len(logits), at_once):
            rows = slice(start, start + at_once)
            targets = soft_labels(teacher_logits[rows], labels[rows], alpha)
            log_probabilities = logits[rows].float().log_softmax(dim=-1)
            loss -= (log_probabilities * targets).sum()
            gradient[rows] = log_probabilities.exp_().sub_(targets)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient_of_loss: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * gradient_of_loss, None, None, None
