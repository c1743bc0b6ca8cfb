"""The five losses of TCL and the momentum teacher."""

from dataclasses import dataclass

from tcl.config.checks import check_at_least, require
from tcl.config.train import TrainConfig
from tcl.errors import InputError


@dataclass
class ObjectiveConfig:
    """The five losses and the momentum teacher (TCL sections 3.1 to 3.4). A weight of 0 leaves a loss out."""

    cma_weight: float = 1.0
    """Weight of cross-modal alignment (image-text contrast), >= 0. An ablation is a weight, not a fork."""
    imc_weight: float = 1.0
    """Weight of intra-modal contrast, >= 0."""
    lmi_weight: float = 1.0
    """Weight of local mutual information (global against local), >= 0."""
    itm_weight: float = 1.0
    """Weight of image-text matching, >= 0. Needs a batch of at least 2: a negative comes from another pair."""
    mlm_weight: float = 1.0
    """Weight of masked language modelling, >= 0."""
    temperature: float = 0.07
    """Start of the learned temperature, 0.001 to 0.5 (it is clamped to that range before every use)."""
    queue_size: int = 65536
    """Momentum features kept as extra negatives, >= 1. Any size works with any batch size: the queue wraps."""
    momentum: float = 0.995
    """Of the teacher's moving average, per optimiser step, 0 to 1. 0.995 in the paper."""
    alpha: float = 0.4
    """Share of the teacher's soft targets in CMA and MLM, 0 to 1."""
    alpha_ramp_epochs: float = 1.0
    """alpha grows linearly from 0 over this many epochs, >= 0: the teacher knows nothing at first."""
    global_negatives: bool = False
    """False, as published: each process contrasts its own batch (and the queue), and ITM draws negatives from it.
    True: CMA, IMC, LMI and ITM see the batches of all processes, as one process with the whole batch would."""
    mlm_probability: float = 0.15
    """Share of tokens masked for MLM, 0 to 1 (neither [CLS] nor padding is ever masked)."""


WEIGHTS = ("cma_weight", "imc_weight", "lmi_weight", "itm_weight", "mlm_weight")


def check_objective(objective: ObjectiveConfig, train: TrainConfig) -> None:
    """Weights, queue, temperature, and whether the batch has room for ITM's negatives."""
    check_at_least(0, {f"objective.{name}": getattr(objective, name) for name in WEIGHTS})
    if not any(getattr(objective, name) > 0 for name in WEIGHTS):
        raise InputError(f"objective: all of {', '.join(WEIGHTS)} are 0; at least one loss must have a weight > 0")
    check_distillation(objective.momentum, objective.alpha, objective.alpha_ramp_epochs)
    require(0 < objective.mlm_probability < 1, "objective.mlm_probability", objective.mlm_probability, "0 to 1")
    require(0.001 <= objective.temperature <= 0.5, "objective.temperature", objective.temperature, "0.001 to 0.5")
    check_at_least(1, {"objective.queue_size": objective.queue_size})
    if train.batch_size < 2 and objective.itm_weight > 0:
        raise InputError(
            f"train.batch_size: {train.batch_size} with objective.itm_weight {objective.itm_weight}; ITM draws its "
            f"negatives from the batch and needs at least 2, or objective.itm_weight 0"
        )


def check_distillation(momentum: float, alpha: float, alpha_ramp_epochs: float) -> None:
    """The teacher's moving average and the share of its soft targets."""
    require(0 <= momentum <= 1, "objective.momentum", momentum, "0 to 1")
    require(0 <= alpha <= 1, "objective.alpha", alpha, "0 to 1")
    check_at_least(0, {"objective.alpha_ramp_epochs": alpha_ramp_epochs})
