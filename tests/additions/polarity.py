"""A task that the package does not know: does a caption speak well of its image? docs/architecture.md.

Its students have a head of their own and name their classes; its loss learns a weight for each class.
"""

import random
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from tcl.checkpoints.initial import fill, initial_weights, normalisation_of
from tcl.config.checks import require
from tcl.config.data import DataConfig
from tcl.config.model import ModelConfig
from tcl.config.optim import OptimConfig
from tcl.config.train import TrainConfig
from tcl.data.batch import Batch
from tcl.data.feed.pair_reader import Pair, PairReader
from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.sample_texts import json_of
from tcl.data.texts.tokenize import load_tokenizer
from tcl.losses.learned import LossParameter
from tcl.models.activation_memory import fusion_layers, image_layers, kept_bytes, text_layers
from tcl.models.encoders import Encoders, build_encoders
from tcl.models.no_teacher import NoTargets, NoTeacher
from tcl.models.training_images import training_images
from tcl.objectives.kind import CardText, Kind
from tcl.objectives.objective import Losses
from tcl.tasks.task import Evaluation, Task


@dataclass
class Objective:
    """Cross-entropy."""

    rarity: float = 1.0
    """Start of the learned weight of the second class, > 0."""


@dataclass
class Eval:
    """Of nothing but a fixed phrase."""

    every: int = 1000
    """Optimiser steps between evaluations."""


@dataclass
class Config:
    """Fine-tune on polarity."""

    task: str = "polarity"
    init: str | None = None
    output_dir: str = "runs/polarity"
    seed: int = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: Objective = field(default_factory=Objective)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: Eval = field(default_factory=Eval)


def check(config: Config, trains: bool = True) -> None:
    require(config.objective.rarity > 0, "objective.rarity", config.objective.rarity, "a number > 0")


@dataclass
class Parts:
    """What config.json says of such a student."""

    classes: list[str]

    def check(self, place: str) -> None:
        require(len(self.classes) > 1, f"{place}: classes", self.classes, "two names at least")


class Student(nn.Module):
    loss_parameters = {"rarity": LossParameter(0.1, 10.0)}  # noqa: RUF012

    def __init__(self, encoders: Encoders, classes: list[str], rarity: float = 1.0):
        super().__init__()
        self.encoders = encoders
        self.classes = classes
        self.head = nn.Linear(encoders.fusion_encoder.width, len(classes))
        self.rarity = nn.Parameter(torch.tensor([rarity]))
        for unused in (encoders.vision_proj, encoders.text_proj, encoders.mlm_head):
            unused.requires_grad_(False)

    @property
    def averaged(self) -> Encoders:
        return self.encoders

    def logits(self, batch: Batch) -> Tensor:
        encoders, texts = self.encoders, batch.inputs["text"]
        images = encoders.fusion_encoder.image_keys_values(encoders.image_encoder(batch.inputs["image"].view))
        fused = encoders.fusion_encoder(encoders.text_encoder(texts.ids, texts.mask), texts.mask, images)
        return self.head(fused[:, 0])

    def forward(self, batch: Batch, targets: NoTargets) -> Losses:
        logits, labels = self.logits(batch), batch.inputs["label"].index
        weights = torch.cat([torch.ones_like(self.rarity), self.rarity])[labels]
        loss = (weights * F.cross_entropy(logits.float(), labels, reduction="none")).mean()
        accuracy = (logits.detach().argmax(dim=1) == labels).float().mean()
        return Losses({"polarity": loss}, {"accuracy": accuracy}, loss)


def build_student(model: ModelConfig, parts: Parts, tokenizer: PreTrainedTokenizerBase) -> Student:
    return Student(build_encoders(model, len(tokenizer), tokenizer.pad_token_id), parts.classes)


KIND = Kind(
    name="polarity",
    build=build_student,
    card=CardText("A classifier of captions.", "from tcl import load_model", "image-text-to-text"),
    Parts=Parts,
    parts_of=lambda student: Parts(student.classes),
)


@dataclass
class Labels:
    index: Tensor

    def describe(self) -> str:
        return f"{self.index.float().mean():.1f} on average"


class Reader(PairReader):
    """Pairs whose JSON has a "label"."""

    def read(self, fields: dict[str, bytes], key: str, rng: random.Random) -> tuple[Pair, int]:
        label = json_of(fields).get("label")
        if label not in ("well", "ill"):
            raise BadSample("missing label")
        return super().read(fields, key, rng), int(label == "ill")

    def batch(self, examples: list[tuple[Pair, int]], seed: int) -> Batch:
        batch = super().batch([pair for pair, _ in examples], seed)
        batch.inputs["label"] = Labels(torch.tensor([label for _, label in examples]))
        return batch


def build(config: Config, accelerator: Accelerator) -> Task:
    config.model.image = normalisation_of(config.model.image, config.init)
    tokenizer = load_tokenizer(config.model.text.tokenizer)
    student = build_student(config.model, Parts(["well", "ill"]), tokenizer)
    student.rarity.data.fill_(config.objective.rarity)
    notices = []
    if config.init is not None:
        weights = initial_weights(config.init)
        notices = fill(student, weights, config.init, may_lack=("head.",), not_needed=("itm_head.",))
    images = training_images(config.data, config.model.image, student.encoders.image_encoder)
    reader = Reader(
        config.data,
        images.views,
        tokenizer,
        mlm_probability=0.0,
        two_views=False,
    )
    encoders, tokens = student.encoders, config.train.batch_size * config.data.max_tokens
    layers = image_layers(encoders.image_encoder, config.train.batch_size)
    layers += text_layers(encoders.text_encoder, tokens) + fusion_layers(encoders.fusion_encoder, tokens)
    return Task(
        KIND,
        student,
        NoTeacher(),
        tokenizer,
        reader,
        prepare=images.prepare,
        evaluate=partial(_evaluate, tokenizer=tokenizer),
        activation_bytes=kept_bytes(layers, 0, 0, checkpointing=False, bf16=False),
        notices=notices + images.notices,
    )


def _evaluate(accelerator: Accelerator, student: Student, *, tokenizer: PreTrainedTokenizerBase) -> Evaluation:
    norm = float(student.head.weight.detach().norm())

    def write(folder: Path) -> None:
        (folder / "polarity.txt").write_text(f"{norm}\n")

    return Evaluation({"head_norm": norm}, norm, f"the head weighs {norm:.3f}", write)
