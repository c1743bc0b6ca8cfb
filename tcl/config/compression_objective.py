"""What a compression of image tokens is learned from, for a finished model."""

from dataclasses import dataclass

from tcl.config.checks import check_at_least, require
from tcl.config.tcl_objective import ObjectiveConfig, check_batch_of_negatives
from tcl.config.train import TrainConfig
from tcl.errors import InputError


@dataclass
class CompressionObjectiveConfig:
    """ITM and MLM through the frozen fusion encoder, and its own ITM logits of all tokens (EDJE). A weight of 0 leaves
    a loss out."""

    itm_weight: float = 1.0
    """Weight of image-text matching, >= 0. Needs a batch of at least 2: a negative comes from another pair."""
    itm_hardness: float = 1.0
    """Of ITM's negatives, >= 0, as in pre-training: 0 any with equal chance."""
    distil_itm_weight: float = 1.0
    """Weight of learning the frozen model's own ITM logits of all tokens, >= 0: soft labels for the same pairs."""
    mlm_weight: float = 1.0
    """Weight of masked language modelling, >= 0."""
    mlm_probability: float = 0.15
    """Share of tokens masked for MLM, 0 to 1."""

    @property
    def of_tcl(self) -> ObjectiveConfig:
        """The same as TCL's objective says it."""
        return ObjectiveConfig(cma_weight=0.0, imc_weight=0.0, lmi_weight=0.0, **vars(self))


def check_compression_objective(objective: CompressionObjectiveConfig, train: TrainConfig) -> None:
    """Weights, and whether the batch has room for ITM's negatives."""
    weights = {f"{name}_weight": getattr(objective, f"{name}_weight") for name in ("itm", "distil_itm", "mlm")}
    check_at_least(0, {f"objective.{name}": value for name, value in weights.items()})
    if not any(value > 0 for value in weights.values()):
        raise InputError(f"objective: all of {', '.join(weights)} are 0; at least one loss must have a weight > 0")
    check_at_least(0, {"objective.itm_hardness": objective.itm_hardness})
    require(0 < objective.mlm_probability < 1, "objective.mlm_probability", objective.mlm_probability, "0 to 1")
    check_batch_of_negatives(objective.itm_weight, objective.distil_itm_weight, train)
