"""Contrast within the batch, without a teacher."""

from dataclasses import dataclass
from typing import Literal

from tcl.config.checks import require
from tcl.config.tcl_objective import check_temperature
from tcl.config.train import TrainConfig


@dataclass
class CLIPObjectiveConfig:
    """Two towers and the pairs of a batch (CLIP, Radford et al. 2021; SigLIP, Zhai et al. 2023)."""

    name: str = "clip"
    """Which file of tcl/objectives/ this is."""
    loss: Literal["softmax", "sigmoid"] = "softmax"
    """softmax: each image finds its text among all, and each text its image; sigmoid: each pair of the batch is told
    from the others on its own."""
    temperature: float = 0.07
    """Start of the learned temperature, 0.001 to 0.5 (it is clamped to that range before every use). SigLIP starts at
    0.1."""
    bias: float = -10.0
    """Start of the learned bias of the sigmoid, which tells how rare matching pairs are, -100 to 100."""
    global_negatives: bool = False
    """False: each process contrasts its own batch; True: the batches of all processes, as one process with the whole
    batch would."""


def check_clip_objective(objective: CLIPObjectiveConfig, train: TrainConfig) -> None:
    """InputError: the first impossible value."""
    check_temperature(objective.temperature)
    require(abs(objective.bias) <= 100, "objective.bias", objective.bias, "-100 to 100")
    accepted = "at least 2: an image is told from another pair's"
    require(train.batch_size >= 2, "train.batch_size", train.batch_size, accepted)
