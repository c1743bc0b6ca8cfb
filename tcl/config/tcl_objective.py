"""The five losses of TCL and the momentum teacher."""

from dataclasses import dataclass, field, fields

from tcl.config.checks import check_at_least, require
from tcl.config.distillation import Distillation, check_distillation
from tcl.config.free import AS_BEFORE
from tcl.config.train import TrainConfig
from tcl.errors import InputError


@dataclass
class ObjectiveConfig(Distillation):
    """The five losses and the momentum teacher (TCL sections 3.1 to 3.4). A weight of 0 leaves a loss out."""

    name: str = "tcl"
    """Which file of tcl/objectives/ this is."""
    cma_weight: float = 1.0
    """Weight of cross-modal alignment (image-text contrast), >= 0. An ablation is a weight, not a fork."""
    imc_weight: float = 1.0
    """Weight of intra-modal contrast, >= 0."""
    lmi_weight: float = 1.0
    """Weight of local mutual information (global against local), >= 0."""
    itm_weight: float = 1.0
    """Weight of image-text matching, >= 0. Needs a batch of at least 2: a negative comes from another pair."""
    itm_hardness: float = field(default=1.0, metadata=AS_BEFORE)
    """ITM's negatives are drawn in proportion to exp(hardness x similarity / temperature), >= 0: 1 as published, 0 any
    with equal chance. Where the embeddings are good already, a new fusion encoder learns nothing from the hard ones:
    begin with easy ones."""
    mlm_weight: float = 1.0
    """Weight of masked language modelling, >= 0."""
    temperature: float = 0.07
    """Start of the learned temperature, 0.001 to 0.5 (it is clamped to that range before every use)."""
    queue_size: int = 65536
    """Momentum features kept as extra negatives, >= 1. Any size works with any batch size: the queue wraps."""
    global_negatives: bool = False
    """False, as published: each process contrasts its own batch (and the queue), and ITM draws negatives from it.
    True: CMA, IMC, LMI and ITM see the batches of all processes, as one process with the whole batch would."""
    mlm_probability: float = 0.15
    """Share of tokens masked for MLM, 0 to 1 (neither [CLS] nor padding is ever masked)."""

    @property
    def contrasts(self) -> bool:
        """Does any loss compare features?"""
        return self.cma_weight + self.imc_weight + self.lmi_weight > 0

    @property
    def embeds(self) -> bool:
        """Are features needed: for a contrast, or to draw the negatives of ITM?"""
        return self.contrasts or self.itm_weight > 0

    @property
    def remembers(self) -> bool:
        """Does any loss look into the queues?"""
        return self.cma_weight + self.imc_weight > 0


def check_objective(objective: ObjectiveConfig, train: TrainConfig) -> None:
    """Weights, queue, temperature, and whether the batch has room for ITM's negatives."""
    weights = [one.name for one in fields(objective) if one.name.endswith("_weight")]
    check_at_least(0, {f"objective.{name}": getattr(objective, name) for name in weights})
    if not any(getattr(objective, name) > 0 for name in weights):
        raise InputError(f"objective: all of {', '.join(weights)} are 0; at least one loss must have a weight > 0")
    check_distillation(objective)
    require(0 < objective.mlm_probability < 1, "objective.mlm_probability", objective.mlm_probability, "0 to 1")
    check_temperature(objective.temperature)
    check_at_least(0, {"objective.itm_hardness": objective.itm_hardness})
    check_at_least(1, {"objective.queue_size": objective.queue_size})
    if train.batch_size < 2 and objective.itm_weight > 0:
        raise InputError(
            f"train.batch_size: {train.batch_size} with objective.itm_weight {objective.itm_weight}; ITM draws its "
            f"negatives from the batch and needs at least 2, or objective.itm_weight 0"
        )


def check_temperature(temperature: float) -> None:
    """The start of a learned temperature."""
    require(0.001 <= temperature <= 0.5, "objective.temperature", temperature, "0.001 to 0.5")
