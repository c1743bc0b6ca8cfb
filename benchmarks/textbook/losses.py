"""The three contrastive losses and MLM, written straight from the paper's equations, as the published code has them."""

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_modal(logits: Tensor, teacher_logits: Tensor, alpha: float) -> Tensor:
    """CE of `logits` [B, C] with alpha softmax(teacher_logits) + (1 - alpha) onehot(b) (TCL equations 1 to 3)."""
    onehot = torch.zeros_like(logits).fill_diagonal_(1)
    targets = alpha * F.softmax(teacher_logits, dim=1) + (1 - alpha) * onehot
    return -(F.log_softmax(logits, dim=1) * targets).sum(dim=1).mean()


def intra_modal(logits: Tensor) -> Tensor:
    """InfoNCE of `logits` [B, C], the positive of row b in column b (equations 4 and 5)."""
    onehot = torch.zeros_like(logits).fill_diagonal_(1)
    return -(F.log_softmax(logits, dim=1) * onehot).sum(dim=1).mean()


def local_global(features: Tensor, local_features: Tensor, temperature: Tensor, mask: Tensor | None = None) -> Tensor:
    """LMI (equation 6): each part of a sample is one InfoNCE with the parts of all other samples as negatives.

    features [B, D], local_features [B, M, D], mask [B, M] (1 part, 0 padding): a tensor of B x M x (1 + B M) logits.
    """
    B, M, _ = local_features.shape
    mask = torch.ones(B, M) if mask is None else mask
    mask = mask.to(features)
    similarity = torch.einsum("bd,cmd->bcm", features, local_features) / temperature
    positives = similarity[torch.arange(B), torch.arange(B)]
    own = torch.eye(B, device=features.device)[:, :, None]
    negatives = similarity.masked_fill((own + (1 - mask)[None]) > 0, -torch.inf).reshape(B, 1, B * M)
    logits = torch.cat([positives[:, :, None], negatives.expand(B, M, B * M)], dim=2)
    loss = -F.log_softmax(logits, dim=2)[:, :, 0]
    loss = (loss * mask).sum(dim=1) / mask.sum(dim=1)
    return loss.mean()


def masked_language(logits: Tensor, labels: Tensor, teacher_probabilities: Tensor, alpha: float) -> Tensor:
    """(1 - alpha) CE + alpha soft CE over the masked positions; logits [B, L, V], labels [B, L] (-100: not masked)."""
    hard = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    soft = -(F.log_softmax(logits, dim=-1) * teacher_probabilities).sum(dim=-1)
    return (1 - alpha) * hard + alpha * soft[labels != -100].mean()
