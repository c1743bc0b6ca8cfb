"""Image classification: a head on the image encoder, which is trained with it or, frozen, only probed."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tcl.checkpoints.initial import description_of, fill, initial_weights, normalisation_of
from tcl.config.checks import check_at_least, require
from tcl.config.class_head import ClassHeadConfig, HeadLoss, check_class_head
from tcl.config.data import DataConfig, check_data
from tcl.config.free import FREE
from tcl.config.model import ModelConfig, check_model
from tcl.config.optim import OptimConfig, check_optim
from tcl.config.train import TrainConfig, check_train
from tcl.data.feed.labelled_reader import LabelledReader
from tcl.data.images.augment import eval_transform
from tcl.data.sets.labelled_set import LabelledImages, labelled_set
from tcl.data.sets.streamed_set import StreamedSet
from tcl.data.shards.list_shards import check_shards
from tcl.data.texts.class_list import check_names, read_class_list
from tcl.encoders.build_image_encoder import build_image_encoder
from tcl.errors import InputError
from tcl.evaluation.class_report import accuracies, report_line, write_report
from tcl.evaluation.classify_images import classify_images
from tcl.models.activation_memory import image_layers, kept_bytes
from tcl.models.no_teacher import NoTeacher
from tcl.models.training_images import training_images
from tcl.objectives.classification import ClassificationStudent, ImageClassGraph
from tcl.objectives.kind import CardText, Kind
from tcl.tasks.task import Evaluation, Task


@dataclass
class Parts:
    """What describes a classifier beside its `model`."""

    classes: list[str]
    """Their names, in the order of its scores."""
    loss: HeadLoss = "softmax"
    """By which its head learned: whether scores are logits or cosines."""
    scale: float = 1.0
    """What makes logits of the scores, > 0."""

    def check(self, place: str) -> None:
        """InputError: fewer than two classes, or one twice, an impossible scale."""
        require(len(self.classes) > 1, f"{place}: classes", self.classes, "two names or more")
        check_names(self.classes, f"{place}: classes")
        require(0 < self.scale < math.inf, f"{place}: scale", self.scale, "a number > 0")

    @property
    def head(self) -> ClassHeadConfig:
        """The section of a configuration that makes such a head."""
        return ClassHeadConfig(self.loss, scale=None if self.loss == "softmax" else self.scale)


def build_student(
    model: ModelConfig, parts: Parts, tokenizer: PreTrainedTokenizerBase | None = None
) -> ClassificationStudent:
    """InputError: an image encoder that cannot be built."""
    return ClassificationStudent(build_image_encoder(model.image), parts.classes, parts.head)


KIND = Kind(
    name="classification",
    build=build_student,
    opened_by="tcl.inference.classifier:TCLForClassification",
    card=CardText(
        what="An image encoder with a head that tells which of a list of classes an image belongs to.",
        use="from tcl import TCLForClassification\n\nmodel = TCLForClassification.from_pretrained(folder_or_hub_id)",
        pipeline_tag="image-classification",
    ),
    Parts=Parts,
    parts_of=lambda student: Parts(student.classes, student.head.loss, student.head.scale),
    reads_text=False,
    graph=ImageClassGraph,
)


@dataclass
class Classes:
    """What there is to tell apart."""

    list: str | None = None
    """File of the names of the classes, one a line, two at least. A sample's label is one of them, or its place from
    0: "label" in its JSON, or its .cls file."""


@dataclass
class Eval:
    """Classifying the images of data.val."""

    every: int = 1000
    """Optimiser steps between evaluations, >= 1; the last step always evaluates."""
    batch_size: int = 64
    """Images per forward pass, >= 1."""
    max_samples: int | None = None
    """Evaluate on the first this many samples, >= 1; None: on all."""


@dataclass
class Config:
    """Fine-tune on image classification, or evaluate it (--eval_only)."""

    task: str = "classification"
    """Which file of tcl/tasks/ this is."""
    init: str | None = field(default=None, metadata=FREE)
    """Weights to start from: a run's output_dir, one of its step_* folders, an export, a student.safetensors, or a
    published .pth. Those of the image encoder are enough; of a classifier its head is taken, too. None: random. The
    `model` section of the run or export is the default for this one's."""
    output_dir: str = field(default="runs/classification-{date}-{n}", metadata=FREE)
    """Where metrics.jsonl, config.yaml, checkpoints/ and results/ go. {date} is the day of the start, {n} the first
    number that is free; with --config FILE the default is runs/FILE-{date}-{n}."""
    seed: int = 0
    """Of new weights, shuffling, augmentation and dropout."""
    model: ModelConfig = field(default_factory=ModelConfig)
    classes: Classes = field(default_factory=Classes)
    head: ClassHeadConfig = field(default_factory=ClassHeadConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=5e-5, warmup_lr=1e-6, min_lr=1e-6))
    train: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=10), metadata=FREE)
    eval: Eval = field(default_factory=Eval, metadata=FREE)


def check(config: Config, trains: bool = True) -> None:
    """InputError: the first impossible value. trains: data to train on are needed."""
    if config.classes.list is None:
        raise InputError("classes.list: none; give a file with the names of the classes, one a line")
    check_class_head(config.head)
    check_at_least(1, {f"eval.{name}": getattr(config.eval, name) for name in ("every", "batch_size", "max_samples")})
    check_model(config.model)
    check_train(config.train)
    check_data(config.data, trains)
    check_shards(config.data, trains)
    check_optim(config.optim)


def build(config: Config, accelerator: Accelerator) -> Task:
    """InputError: names that cannot be built, weights or a head of another kind, no usable list of classes."""
    classes = read_class_list(Path(config.classes.list), "classes.list")
    _check_resumed(config, classes)
    config.model.image = normalisation_of(config.model.image, config.init)  # and config.yaml remembers it
    student = ClassificationStudent(build_image_encoder(config.model.image), classes, config.head)
    notices = [] if config.init is None else _start_from(config.init, student)
    encoder, data, batch = student.networks.image_encoder, config.data, config.train.batch_size
    images = training_images(data, config.model.image, encoder)
    evaluate = None
    if data.val is not None:
        transform = eval_transform(config.model.image.image_size, encoder.mean, encoder.std)
        labelled = labelled_set(data, classes, transform, config.eval.max_samples)
        evaluate = partial(_evaluate, images=labelled, classes=classes, batch_size=config.eval.batch_size)
    return Task(
        KIND,
        student,
        NoTeacher(),
        None,
        LabelledReader(images.views, classes),
        prepare=images.prepare,
        evaluate=evaluate,
        activation_bytes=kept_bytes(
            image_layers(encoder, batch),
            0,
            batch * len(classes),
            checkpointing=config.train.activation_checkpointing,
            bf16=accelerator.mixed_precision == "bf16",
        ),
        notices=notices + images.notices,
    )


def _check_resumed(config: Config, classes: list[str]) -> None:
    """The list may have other names than when the run in output_dir started, which the name of the file does not say.

    InputError: it has, and train.resume is not given.
    """
    if config.train.resume is not None or not (Path(config.output_dir) / "checkpoints").is_dir():
        return
    former = description_of(config.output_dir)
    if former is not None and former.kind == KIND.name and former.parts.get("classes") != classes:
        raise InputError(
            f"classes.list: {config.classes.list} holds other classes than those of the run in {config.output_dir}; "
            f"take its list, or another output_dir"
        )


def _start_from(init: str, student: ClassificationStudent) -> list[str]:
    """Load the weights of `init`, with the head if they are a classifier's. What is to be said of it.

    InputError: no weights, or those of another image encoder; a head with other classes or another loss.
    """
    weights, said = initial_weights(init), description_of(init)
    if said is not None and said.kind == KIND.name:
        _check_same_head(init, said.parts, student)
        return fill(student, weights, init)
    names = {name: name.partition(".image_encoder.")[2] for name in weights}
    own = {f"image_encoder.{inner}": weights[name] for name, inner in names.items() if inner}
    if not own:
        raise InputError(
            f"init: {init} holds no weights of an image encoder; give a run, an export or a published .pth"
        )
    return [*fill(student.networks, own, init), f"init: {init} has no head for these classes: it starts random"]


def _check_same_head(init: str, parts: dict, student: ClassificationStudent) -> None:
    own, theirs = student.classes, parts.get("classes")
    if theirs != own:
        other = next((name for name in own if name not in theirs), None)
        why = "in another order" if other is None and len(own) == len(theirs) else f"{len(theirs):,} others"
        raise InputError(
            f"classes.list: {len(own):,} classes, but those of init, {init}, are {why}; give its list, or weights from "
            f"before it was fine-tuned"
        )
    if parts.get("loss") != student.head.loss:
        raise InputError(
            f"head.loss: {student.head.loss!r} is not that of init, {init}; accepted: {parts.get('loss')}, or weights "
            f"from before it was fine-tuned"
        )


def _evaluate(
    accelerator: Accelerator,
    student: ClassificationStudent,
    *,
    images: StreamedSet[LabelledImages],
    classes: list[str],
    batch_size: int,
) -> Evaluation:
    return evaluate_classes(accelerator, student, images, classes, student.logits, batch_size)


def evaluate_classes(
    accelerator: Accelerator,
    networks: nn.Module,
    images: StreamedSet[LabelledImages],
    classes: list[str],
    logits: Callable[[Tensor], Tensor],
    batch_size: int,
) -> Evaluation:
    """By `classify_images`, whose arguments these are, of images of `classes`; the score is the top-1 accuracy in
    percent."""
    found = classify_images(accelerator, networks, images, logits, batch_size)
    metrics = accuracies(found, len(classes))
    line = report_line(found, metrics, len(classes))
    return Evaluation(metrics, metrics["top1"], line, partial(write_report, found=found, classes=classes))
