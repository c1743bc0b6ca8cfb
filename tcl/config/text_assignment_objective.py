"""Text assignment, the step between pre-training and NLVR2."""

from dataclasses import dataclass

from tcl.config.checks import require
from tcl.config.train import TrainConfig


@dataclass
class TextAssignmentConfig:
    """Which of two images does a text belong to, the first, the second or neither (ALBEF, section 5)?"""

    name: str = "text_assignment"
    """Which file of tcl/objectives/ this is."""


def check_text_assignment(objective: TextAssignmentConfig, train: TrainConfig) -> None:
    """InputError: a batch without two other images for each text."""
    accepted = "at least 3: a text is shown two images that are not its own"
    require(train.batch_size >= 3, "train.batch_size", train.batch_size, accepted)
