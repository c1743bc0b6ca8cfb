"""Contrast of video, sound and text within the batch, without a teacher."""

from dataclasses import dataclass
from typing import Literal

from tcl.config.checks import require
from tcl.config.tcl_objective import check_temperature
from tcl.config.train import TrainConfig


@dataclass
class ClipsObjectiveConfig:
    """MMV (arXiv 2006.16228): NCE of clips and their sounds, MIL-NCE of clips and their captions, over the batches of
    all processes."""

    name: str = "clips"
    """Which file of tcl/objectives/ this is."""
    va_weight: float = 1.0
    """Of video with sound, >= 0. 0: there is no such loss, and sound is not read if at_weight is 0, too."""
    vt_weight: float = 1.0
    """Of video with text, >= 0. 1 as published, 10 where sound is of the same clips as text (HowTo100M alone)."""
    at_weight: float = 0.0
    """Of sound with text, >= 0. 0 as published: how they fit is then only evaluated, and with model.spaces.graph
    disjoint they have no space."""
    temperature: float = 0.07
    """Similarities are divided by it, 0.001 to 0.5; not learned."""
    positives: Literal["twice", "once"] = "twice"
    """How often the right pairs count in the denominator: twice as in the published code, once as in the paper."""


def check_clips_objective(objective: ClipsObjectiveConfig, train: TrainConfig) -> None:
    """InputError: the first impossible value."""
    weights = {name: getattr(objective, name) for name in ("va_weight", "vt_weight", "at_weight")}
    for name, weight in weights.items():
        require(weight >= 0, f"objective.{name}", weight, "a number >= 0")
    used = objective.va_weight + objective.vt_weight > 0
    require(used, "objective.va_weight", objective.va_weight, "more than 0, unless objective.vt_weight is")
    check_temperature(objective.temperature)
    accepted = "at least 2: a clip is told from others, and norms are taken over the batch"
    require(train.batch_size >= 2, "train.batch_size", train.batch_size, accepted)
