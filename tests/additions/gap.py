"""An objective that the package does not know: TCL and one more loss, which learns a number of its own."""

from dataclasses import dataclass

import torch
from torch import nn

from tcl.config.model import ModelConfig
from tcl.config.tcl_objective import ObjectiveConfig, check_objective
from tcl.data.batch import Batch
from tcl.losses.learned import LossParameter
from tcl.objectives import tcl
from tcl.objectives.kind import Kind
from tcl.objectives.objective import Losses
from tcl.objectives.pair_objective import PairObjective
from tcl.objectives.tcl_teacher import TCLTargets


@dataclass
class Config(ObjectiveConfig):
    """TCL, and the gap between the modalities."""

    name: str = "gap"
    gap_weight: float = 0.5
    """Weight of the gap between the mean image and the mean text, >= 0."""


class Student(tcl.TCLStudent):
    loss_parameters = {**tcl.TCLStudent.loss_parameters, "margin": LossParameter(0.0, 1.0)}  # noqa: RUF012

    def __init__(self, encoders: nn.Module, objective: Config):
        super().__init__(encoders, objective)
        self.margin = nn.Parameter(torch.tensor([0.1]))

    def forward(self, batch: Batch, targets: TCLTargets) -> Losses:
        each, metrics, total = super().forward(batch, targets)
        image, text = (targets.candidates[name][0].mean(dim=0) for name in ("image", "text"))
        each["gap"] = ((image - text).norm() - self.margin).square().sum()
        return Losses(each, metrics, total + self.objective.gap_weight * each["gap"])


def build_student(model: ModelConfig, objective: Config, tokenizer) -> Student:
    return Student(tcl.build_encoders(model, len(tokenizer), tokenizer.pad_token_id), objective)


KIND = Kind(
    "gap",
    build=lambda model, parts, tokenizer: build_student(model, Config(), tokenizer),
    card=tcl.KIND.card,
    may_lack=tcl.KIND.may_lack,
)

OBJECTIVE = PairObjective(
    kind=KIND,
    Config=Config,
    check=check_objective,
    build_student=build_student,
    build_teacher=tcl.OBJECTIVE.build_teacher,
    activation_bytes=tcl.OBJECTIVE.activation_bytes,
    matches=True,
    two_views=True,
    masked_share=tcl.OBJECTIVE.masked_share,
    distillation=tcl.OBJECTIVE.distillation,
)
