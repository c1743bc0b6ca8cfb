"""The momentum teacher, in whatever objective has one."""

from dataclasses import dataclass

from tcl.config.checks import check_at_least, require


@dataclass
class Distillation:
    """How the teacher follows the student, and how far the student believes it (ALBEF section 3.4)."""

    momentum: float = 0.995
    """Of the teacher's moving average, per optimiser step, 0 to 1. 0.995 in the paper."""
    alpha: float = 0.4
    """Share of the teacher's soft targets (CMA, MLM, answers), 0 to 1."""
    alpha_ramp_epochs: float = 1.0
    """alpha grows linearly from 0 over this many epochs, >= 0: the teacher knows nothing at first."""


NO_TEACHER = Distillation(momentum=1.0, alpha=0.0, alpha_ramp_epochs=0.0)
"""Of an objective that has none."""


def check_distillation(distillation: Distillation) -> None:
    """InputError: the first impossible value, as a field of `objective`."""
    require(0 <= distillation.momentum <= 1, "objective.momentum", distillation.momentum, "0 to 1")
    require(0 <= distillation.alpha <= 1, "objective.alpha", distillation.alpha, "0 to 1")
    check_at_least(0, {"objective.alpha_ramp_epochs": distillation.alpha_ramp_epochs})
