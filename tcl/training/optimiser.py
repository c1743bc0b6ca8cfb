"""AdamW and what changes from step to step: the learning rate and the share of soft targets."""

import math

import torch
from torch import nn

from tcl.config.optim import OptimConfig


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; biases, norms and scalars (fewer than 2 dimensions) do not decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


def learning_rate(step: float, total_steps: float, warmup_steps: float, config: OptimConfig) -> float:
    """Of step 0 .. total_steps - 1: linear from warmup_lr to lr in `warmup_steps`, then a half cosine to min_lr."""
    if step < warmup_steps:
        return config.warmup_lr + (config.lr - config.warmup_lr) * step / warmup_steps
    done = (step - warmup_steps) / max(total_steps - 1 - warmup_steps, 1)
    return config.min_lr + (config.lr - config.min_lr) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def soft_target_share(step: float, ramp_steps: float, alpha: float) -> float:
    """alpha of step `step`: linear from 0 to `alpha` over `ramp_steps` steps."""
    return alpha * min(1.0, step / ramp_steps) if ramp_steps > 0 else alpha
