"""The five losses of TCL and the momentum teacher, and two more that ask for nothing new."""

import math
from dataclasses import dataclass, field, fields

from tcl.config.checks import check_at_least, require
from tcl.config.distillation import Distillation, check_distillation
from tcl.config.free import AS_BEFORE
from tcl.config.train import TrainConfig
from tcl.errors import InputError


@dataclass
class ObjectiveConfig(Distillation):
    """The five losses and the momentum teacher (TCL sections 3.1 to 3.4), dual softmax and circle loss. A weight of 0
    leaves a loss out."""

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
    distil_itm_weight: float = field(default=0.0, metadata=AS_BEFORE)
    """Weight of learning ITM's logits from the same student without its compression (model.fusion.image_tokens), >= 0:
    soft labels for the same pairs (EDJE). For weights that know all tokens: fine-tuning from a model without
    compression; from scratch nothing teaches the fusion encoder to read them."""
    mlm_weight: float = 1.0
    """Weight of masked language modelling, >= 0."""
    dsl_weight: float = field(default=0.0, metadata=AS_BEFORE)
    """Weight of the dual softmax loss (CAMoE), >= 0: contrast within the batch of all processes, in which a candidate
    that is some other query's best is worth less."""
    dsl_temperature: float = field(default=1.0, metadata=AS_BEFORE)
    """By which logits (similarities over the temperature) are divided in that loss's prior, > 0. At the 1000 of the
    published code the prior is even and the loss is plain contrast; its author says 1."""
    circle_weight: float = field(default=0.0, metadata=AS_BEFORE)
    """Weight of circle loss, >= 0: features against the teacher's of the other modality, in the batch and the queue,
    where all with the same image id are right."""
    circle_margin: float = field(default=0.25, metadata=AS_BEFORE)
    """How far from 1 and from 0 similarities of right and wrong pairs may end, 0 to 1."""
    circle_scale: float = field(default=128.0, metadata=AS_BEFORE)
    """By which circle loss multiplies similarities, > 0: 80 to 256 where it was published."""
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
        return self.learns_temperature or self.circle_weight > 0

    @property
    def learns_temperature(self) -> bool:
        """Does any loss divide by it? Circle loss has a scale of its own."""
        return self.cma_weight + self.imc_weight + self.lmi_weight + self.dsl_weight > 0

    @property
    def embeds(self) -> bool:
        """Are features needed: for a contrast, or to draw the negatives of ITM?"""
        return self.contrasts or self.matches

    @property
    def matches(self) -> bool:
        """Are pairs and negatives fused?"""
        return self.itm_weight + self.distil_itm_weight > 0

    @property
    def remembers(self) -> bool:
        """Does any loss look into the queues?"""
        return self.cma_weight + self.imc_weight + self.circle_weight > 0


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
    for name in ("dsl_temperature", "circle_scale"):
        value = getattr(objective, name)
        require(0 < value < math.inf, f"objective.{name}", value, "a number > 0")
    require(0 <= objective.circle_margin <= 1, "objective.circle_margin", objective.circle_margin, "0 to 1")
    check_at_least(1, {"objective.queue_size": objective.queue_size})
    check_batch_of_negatives(objective.itm_weight, objective.distil_itm_weight, train)


def check_batch_of_negatives(itm_weight: float, distil_itm_weight: float, train: TrainConfig) -> None:
    """Is there another pair to draw a negative from?"""
    for name, weight in (("itm_weight", itm_weight), ("distil_itm_weight", distil_itm_weight)):
        if train.batch_size < 2 and weight > 0:
            raise InputError(
                f"train.batch_size: {train.batch_size} with objective.{name} {weight}; ITM draws its negatives from "
                f"the batch and needs at least 2, or objective.{name} 0"
            )


def check_temperature(temperature: float) -> None:
    """The start of a learned temperature."""
    require(0.001 <= temperature <= 0.5, "objective.temperature", temperature, "0.001 to 0.5")
