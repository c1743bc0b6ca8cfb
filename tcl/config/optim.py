"""The optimiser and its schedule."""

from dataclasses import dataclass

from tcl.config.checks import check_at_least, require


@dataclass
class OptimConfig:
    """AdamW with linear warm-up and cosine decay, both along the run's length as `train` gives it."""

    lr: float = 1e-4
    """Peak learning rate, > 0."""
    warmup_lr: float = 1e-5
    """Learning rate of the first step, 0 to lr."""
    min_lr: float = 1e-5
    """Learning rate of the last step, 0 to lr."""
    warmup_steps: int = 2000
    """Optimiser steps of linear warm-up, >= 0, of the batch with which the run began. 2,000 in the published code
    (20 x 100 iterations)."""
    weight_decay: float = 0.02
    """AdamW's decay, >= 0; never applied to biases, norms and the temperature."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's moment decays, each 0 to 1 (1 excluded)."""
    eps: float = 1e-8
    """AdamW's epsilon, > 0."""
    clip_grad_norm: float = 1.0
    """Gradients are scaled down to this global norm, > 0."""


def check_optim(optim: OptimConfig) -> None:
    """AdamW's numbers and the schedule's."""
    require(optim.lr > 0, "optim.lr", optim.lr, "a number > 0")
    for name in ("warmup_lr", "min_lr"):
        require(0 <= getattr(optim, name) <= optim.lr, f"optim.{name}", getattr(optim, name), f"0 to lr ({optim.lr})")
    check_at_least(0, {"optim.warmup_steps": optim.warmup_steps, "optim.weight_decay": optim.weight_decay})
    require(optim.clip_grad_norm > 0, "optim.clip_grad_norm", optim.clip_grad_norm, "a number > 0")
    require(optim.eps > 0, "optim.eps", optim.eps, "a number > 0")
    require(all(0 <= beta < 1 for beta in optim.betas), "optim.betas", optim.betas, "two numbers, 0 <= beta < 1")
