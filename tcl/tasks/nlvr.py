"""NLVR2: is a sentence true of two images (Suhr et al. 2019)?

The fusion encoder's layers are doubled, and look at the two images in turn (tcl.models.paired_fusion). What was
pre-trained on pairs is best readied for it by `tcl pretrain --objective text_assignment`.
"""

import csv
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase

from tcl.checkpoints.initial import normalisation_of
from tcl.config.data import DataConfig
from tcl.config.distillation import Distillation
from tcl.config.free import FREE
from tcl.config.model import ModelConfig
from tcl.config.optim import OptimConfig
from tcl.config.train import TrainConfig
from tcl.data.texts.statement import Form
from tcl.data.texts.tokenize import load_tokenizer
from tcl.evaluation.classify_statements import ClassifiedStatements
from tcl.evaluation.consistency import consistency, group_of
from tcl.evaluation.statement_report import statement_line, statement_metrics, write_statement_report
from tcl.models.encoders import build_encoders
from tcl.models.fused_classifier import two_image_classifier
from tcl.models.paired_fusion import doubled
from tcl.objectives.fused_classes import FusedClassStudent, TwoImageGraph
from tcl.objectives.kind import CardText, Kind
from tcl.tasks import entailment
from tcl.tasks.task import Evaluation, Task

FORM = Form("sentence", ("False", "True"), ("left", "right"))
"""Of samples: KEY.left.png, KEY.right.png, and KEY.json with "sentence", "label" and perhaps "identifier", "group"."""


def build_student(model: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> FusedClassStudent:
    """`model` describes the fusion encoder before its layers are doubled. InputError: networks that cannot be built."""
    encoders = build_encoders(model, len(tokenizer), tokenizer.pad_token_id)
    return FusedClassStudent(two_image_classifier(encoders, FORM.images, len(FORM.classes)))


KIND = Kind(
    name="nlvr",
    build=lambda model, parts, tokenizer: build_student(model, tokenizer),
    opened_by="tcl.inference.nlvr_model:TCLForNLVR",
    card=CardText(
        what="A text is fused with two images, and a head tells whether it is true of them.",
        use="from tcl import TCLForNLVR\n\nmodel = TCLForNLVR.from_pretrained(folder_or_hub_id)",
    ),
    graph=TwoImageGraph,
)


@dataclass
class Config:
    """Fine-tune on NLVR2, or evaluate it (--eval_only)."""

    task: str = "nlvr"
    """Which file of tcl/tasks/ this is."""
    init: str | None = field(default=None, metadata=FREE)
    """Weights to start from: a run's output_dir, one of its step_* folders, an export, a student.safetensors, or a
    published .pth, of text assignment, pre-trained or fine-tuned. None: random. The `model` section of the run or
    export is the default for this one's."""
    output_dir: str = field(default="runs/nlvr-{date}-{n}", metadata=FREE)
    """Where metrics.jsonl, config.yaml, checkpoints/ and results/ go. {date} is the day of the start, {n} the first
    number that is free; with --config FILE the default is runs/FILE-{date}-{n}."""
    seed: int = 0
    """Of new weights, shuffling, augmentation and dropout."""
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: Distillation = field(default_factory=Distillation)
    data: DataConfig = field(default_factory=lambda: DataConfig(max_tokens=64))
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(lr=2e-5, warmup_lr=1e-5, min_lr=1e-6, warmup_steps=100)
    )
    train: TrainConfig = field(default_factory=lambda: TrainConfig(batch_size=16, epochs=10), metadata=FREE)
    eval: entailment.Eval = field(default_factory=entailment.Eval, metadata=FREE)


check = entailment.check


def build(config: Config, accelerator: Accelerator) -> Task:
    """InputError: names that cannot be built, weights of another architecture, data.val without shards."""
    config.model.image = normalisation_of(config.model.image, config.init)  # and config.yaml remembers it
    tokenizer = load_tokenizer(config.model.text.tokenizer)
    student = build_student(config.model, tokenizer)
    notices = [] if config.init is None else entailment.start_from(config.init, student, doubled)
    return entailment.statement_task(config, accelerator, KIND, FORM, student, tokenizer, notices, evaluate)


def evaluate(found: ClassifiedStatements) -> Evaluation:
    """The score is the accuracy in percent; consistency is that of the official script, in percent."""
    metrics = statement_metrics(found, FORM.classes)
    groups = [group_of(one.identifier) if one.group is None else one.group for one in found.told]
    metrics["consistency"] = 100 * consistency(groups, (found.predicted == found.labels).tolist())
    line = statement_line(found, metrics)
    return Evaluation(metrics, metrics["accuracy"], line, partial(_write, found=found))


def _write(folder: Path, *, found: ClassifiedStatements) -> None:
    """The report, and predictions.csv as the official script takes it: identifier, prediction."""
    write_statement_report(folder, found, FORM.classes)
    with (folder / "predictions.csv").open("w", encoding="utf-8", newline="") as file:
        rows = zip(found.told, found.predicted.tolist(), strict=True)
        csv.writer(file).writerows([one.identifier, FORM.classes[place]] for one, place in rows)
