"""TCL's losses of clips and captions, and MMV's contrast of clips with their sounds beside them."""

from dataclasses import dataclass
from typing import Literal

from tcl.config.checks import require
from tcl.config.tcl_objective import ObjectiveConfig, check_objective
from tcl.config.train import TrainConfig


@dataclass
class VideoTextObjectiveConfig(ObjectiveConfig):
    """TCL's objective, in which a clip stands in place of the image, and NCE of video and sound (MMV, arXiv
    2006.16228). A weight of 0 leaves a loss out."""

    name: str = "video_text"
    """Which file of tcl/objectives/ this is."""
    va_weight: float = 0.0
    """Weight of NCE of clips with their sounds, >= 0, over the batches of all processes. A clip without sound has no
    part in it but as a negative. 0: sound is not read, and there is no encoder of it."""
    va_temperature: float = 0.07
    """By which similarities of video and sound are divided, 0.001 to 0.5; not learned. 0.07 in MMV."""
    va_positives: Literal["twice", "once"] = "twice"
    """How often the right pairs count in its denominator: twice as in the published code, once as in the paper."""


def check_video_text_objective(objective: VideoTextObjectiveConfig, train: TrainConfig) -> None:
    """InputError: the first impossible value."""
    check_objective(objective, train)
    temperature, weight = objective.va_temperature, objective.va_weight
    require(0.001 <= temperature <= 0.5, "objective.va_temperature", temperature, "0.001 to 0.5")
    trains = objective.embeds or objective.mlm_weight > 0
    require(trains, "objective.va_weight", weight, "0, where no loss reads text; --objective clips learns without")
    accepted = "at least 2, or objective.va_weight 0: a clip is told from others, and norms are taken over the batch"
    require(train.batch_size >= 2 or weight == 0, "train.batch_size", train.batch_size, accepted)
