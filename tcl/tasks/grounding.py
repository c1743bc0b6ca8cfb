"""Grounding without boxes: where in its image is what an expression means (ALBEF section 4 and 6.4)?

Fine-tuned as retrieval, on images with their expressions; boxes are only needed to evaluate, by Grad-CAM on data.val.
"""

from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedTokenizerBase

from tcl.config.checks import check_at_least
from tcl.config.data import DataConfig, check_data
from tcl.config.free import FREE
from tcl.config.model import ModelConfig, check_model
from tcl.config.optim import OptimConfig, check_optim
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.config.train import TrainConfig, check_train
from tcl.data.images.augment import eval_transform
from tcl.data.sets.grounding_set import GroundingSet, load_grounding_set
from tcl.data.shards.bad_sample import counted
from tcl.data.shards.list_shards import check_shards
from tcl.data.texts.tokenize import knows_a_word, load_tokenizer, tokenize
from tcl.evaluation.ground_expressions import Grounded, ground_expressions
from tcl.evaluation.grounding_page import write_grounding_page
from tcl.evaluation.grounding_results import write_grounding_results
from tcl.evaluation.grounding_scores import grounding_metrics, report_line
from tcl.evaluation.page import run_facts
from tcl.evaluation.text_maps import Mode, Watched, watched
from tcl.objectives.pair_objective import objective_named
from tcl.tasks.pretrain import pair_student, pair_training
from tcl.tasks.task import Evaluation, Task


@dataclass
class Eval:
    """Looking for what the expressions of data.val mean."""

    every: int = 1000
    """Optimiser steps between evaluations, >= 1; the last step always evaluates."""
    batch_size: int = 32
    """Expressions per forward and backward pass, >= 1."""
    max_expressions: int | None = None
    """Evaluate on the first this many expressions, >= 1; None: on all."""
    mode: Mode = "itm"
    """itm: where the words look in the fusion encoder, for the ITM logit; itc: where the image's [CLS] looks in the
    ViT, for the similarity. As published, itm is better by 6 points."""
    layer: int | None = None
    """Of the fusion encoder (itm) or block of the ViT (itc), from 0. None: the third of six, the ninth of twelve, as
    published, or their like."""
    shown: int = 60
    """Worst misses in the report page, >= 0."""


@dataclass
class Config:
    """Fine-tune on expressions without boxes, or evaluate grounding (--eval_only)."""

    task: str = "grounding"
    """Which file of tcl/tasks/ this is."""
    init: str | None = field(default=None, metadata=FREE)
    """Weights to start from: a run's output_dir, one of its step_* folders, an export, a student.safetensors, or a
    published .pth. None: random. The `model` section of the run or export is the default for this one's."""
    output_dir: str = field(default="runs/grounding-{date}-{n}", metadata=FREE)
    """Where metrics.jsonl, config.yaml, checkpoints/ and results/ go. {date} is the day of the start, {n} the first
    number that is free; with --config FILE the default is runs/FILE-{date}-{n}."""
    seed: int = 0
    """Of the queues, shuffling, augmentation and dropout."""
    model: ModelConfig = field(default_factory=ModelConfig)
    # ALBEF's loss: cma_weight counts for each of two of six losses, which makes 1/2 of each.
    objective: ObjectiveConfig = field(
        default_factory=lambda: ObjectiveConfig(cma_weight=3.0, imc_weight=0.0, lmi_weight=0.0, mlm_weight=0.0)
    )
    data: DataConfig = field(default_factory=lambda: DataConfig(max_tokens=30))
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-5, warmup_lr=1e-5, min_lr=1e-6))
    train: TrainConfig = field(default_factory=lambda: TrainConfig(batch_size=32, epochs=5), metadata=FREE)
    eval: Eval = field(default_factory=Eval, metadata=FREE)


def check(config: Config, trains: bool = True) -> None:
    """InputError: the first impossible value. trains: data to train on are needed."""
    objective_named(config.objective.name).check(config.objective, config.train)
    names = ("every", "batch_size", "max_expressions")
    check_at_least(1, {f"eval.{name}": getattr(config.eval, name) for name in names})
    check_at_least(0, {"eval.layer": config.eval.layer, "eval.shown": config.eval.shown})
    check_model(config.model)
    check_train(config.train)
    check_data(config.data, trains)
    check_shards(config.data, trains)
    check_optim(config.optim)


def build(config: Config, accelerator: Accelerator) -> Task:
    """InputError: names that cannot be built, weights of another architecture, a layer that is not there, data.val
    without use."""
    tokenizer = load_tokenizer(config.model.text.tokenizer)
    objective = objective_named(config.objective.name)
    student, notices = pair_student(config, objective, tokenizer)
    where = watched(student, config.eval.mode, config.eval.layer, "eval.")
    task = pair_training(config, accelerator, objective, student, tokenizer, named_ids=True)
    task.notices += notices
    if config.data.val is not None:
        expressions, told = _expressions(config, tokenizer)
        task.notices += told
        task.evaluate = partial(_evaluate, expressions=expressions, where=where, config=config, tokenizer=tokenizer)
    return task


def _expressions(config: Config, tokenizer: PreTrainedTokenizerBase) -> tuple[GroundingSet, list[str]]:
    """Those of data.val, and what is to be said of them. InputError: no usable one."""
    data = config.data
    found = load_grounding_set(
        data.val,
        partial(knows_a_word, tokenizer),
        max_expressions=config.eval.max_expressions,
        max_words=data.max_words,
        max_pixels=data.max_pixels,
        max_sample_bytes=data.max_sample_bytes,
    )
    told = [f"data.val: skipped {counted(found.bad)}"] if found.bad else []
    without = sum(not one.proposals for one in found.expressions)
    if without:
        of_all = f"{without:,} of {len(found.expressions):,} expressions"
        told.append(f"data.val: {of_all} have no proposals; their boxes are made from the map")
    return found, told


def _evaluate(
    accelerator: Accelerator,
    student: nn.Module,
    *,
    expressions: GroundingSet,
    where: Watched,
    config: Config,
    tokenizer: PreTrainedTokenizerBase,
) -> Evaluation:
    """The score is the share of right boxes in percent."""
    image = student.encoders.image_encoder
    found = ground_expressions(
        accelerator,
        student,
        expressions,
        where,
        partial(tokenize, tokenizer, max_tokens=config.data.max_tokens),
        eval_transform(config.model.image.image_size, image.mean, image.std),
        batch_size=config.eval.batch_size,
        max_pixels=config.data.max_pixels,
        workers=config.data.workers,
    )
    metrics = grounding_metrics(found)
    write = partial(_write, found=found, metrics=metrics, images=expressions.images, config=config)
    return Evaluation(metrics, metrics["accuracy"], report_line(metrics, len(found)), write)


def _write(
    folder: Path, *, found: list[Grounded], metrics: dict[str, float], images: list[bytes], config: Config
) -> None:
    """grounding.jsonl, a line for each expression, and grounding.html for a person to look through."""
    write_grounding_results(folder / "grounding.jsonl", found)
    facts = run_facts(config.output_dir, config.init, config.data.val, datetime.now())
    write_grounding_page(folder / "grounding.html", found, metrics, images, config.eval.shown, facts)
