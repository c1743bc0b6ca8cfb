"""Visual question answering: a decoder writes the answer, or ranks those of a closed list (ALBEF section 3.5)."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedTokenizerBase

from tcl.checkpoints.initial import fill, initial_weights, normalisation_of
from tcl.config.checks import check_at_least, require
from tcl.config.data import DataConfig, check_data
from tcl.config.distillation import Distillation, check_distillation
from tcl.config.free import FREE
from tcl.config.model import ModelConfig, check_model
from tcl.config.optim import OptimConfig, check_optim
from tcl.config.train import TrainConfig, check_train
from tcl.data.feed.question_reader import QuestionReader
from tcl.data.images.augment import eval_transform
from tcl.data.sets.question_set import QuestionSet, load_question_set
from tcl.data.shards.bad_sample import counted
from tcl.data.shards.list_shards import check_shards
from tcl.data.texts.answer_list import read_closed_list
from tcl.data.texts.question import tokenize_answers
from tcl.data.texts.tokenize import load_tokenizer, tokenize
from tcl.encoders.text_encoder import check_length
from tcl.errors import InputError
from tcl.evaluation.answer_questions import answer_questions
from tcl.evaluation.answering import AnswerList, choose_answers, write_answers
from tcl.evaluation.vqa_accuracy import (
    AnsweredQuestion,
    accuracy_report,
    exact_match,
    vqa_accuracy,
    write_submission,
)
from tcl.models.compress_tokens import WEIGHTS as COMPRESSION
from tcl.models.encoders import build_encoders
from tcl.models.training_images import training_images
from tcl.objectives.kind import CardText, Kind
from tcl.objectives.question_answering import AnswerTeacher, VQAStudent, build_networks, question_activation_bytes
from tcl.tasks.task import Evaluation, Task


@dataclass
class Parts:
    """What describes a VQA student beside its `model`."""

    decoder_layers: int | None = None
    """Layers of the answer decoder, >= 1; None: as many as the fusion encoder has."""

    def check(self, place: str) -> None:
        """InputError: fewer than one."""
        check_at_least(1, {f"{place}: decoder_layers": self.decoder_layers})


def build_student(model: ModelConfig, parts: Parts, tokenizer: PreTrainedTokenizerBase) -> VQAStudent:
    """InputError: networks that cannot be built."""
    encoders = build_encoders(model, len(tokenizer), tokenizer.pad_token_id)
    return VQAStudent(build_networks(encoders, parts.decoder_layers))


KIND = Kind(
    name="vqa",
    build=build_student,
    opened_by="tcl.inference.question_model:TCLForVQA",
    card=CardText(
        what="Image and question are fused, and a decoder writes the answer or ranks those of a closed list.",
        use="from tcl import TCLForVQA\n\nmodel = TCLForVQA.from_pretrained(folder_or_hub_id)",
        pipeline_tag="visual-question-answering",
    ),
    Parts=Parts,
    parts_of=lambda student: Parts(len(student.networks.decoder.layers)),
    parts_in_run={"decoder_layers": "answers.decoder_layers"},
)


@dataclass
class Answers:
    """How answers are written and chosen."""

    list: str | None = field(default=None, metadata=FREE)
    """File of the possible answers, one a line: they are ranked. None: answers are written freely."""
    max_tokens: int = 10
    """Longest answer in tokens, >= 1; longer ones are cut in training."""
    rank_k: int = field(default=128, metadata=FREE)
    """Answers of the list whose whole likelihood is weighed, those with the most probable first tokens; >= 1."""
    beams: int = field(default=3, metadata=FREE)
    """Width of the beam search where answers are written freely, >= 1 (1: greedy)."""
    decoder_layers: int | None = None
    """Layers of the decoder, >= 1. Default: as many as the fusion encoder has, whose weights they start from."""


@dataclass
class Eval:
    """Answering the questions of data.val."""

    every: int = 1000
    """Optimiser steps between evaluations, >= 1; the last step always evaluates."""
    batch_size: int = 64
    """Questions per forward pass, >= 1."""
    max_questions: int | None = None
    """Evaluate on the first this many questions, >= 1; None: on all."""
    metric: Literal["vqa", "exact"] = "vqa"
    """vqa: the official accuracy over annotators; exact: is the answer one of those given?"""
    pass_tokens: int = 2048
    """Answer tokens in one pass of the ranking, >= 1: bounds its memory, which holds a vocabulary for each."""


@dataclass
class Config:
    """Fine-tune on visual question answering, or evaluate it (--eval_only)."""

    task: str = "vqa"
    """Which file of tcl/tasks/ this is."""
    init: str | None = field(default=None, metadata=FREE)
    """Weights to start from: a run's output_dir, one of its step_* folders, an export, a student.safetensors, or a
    published .pth, pre-trained or fine-tuned. None: random. The `model` section of the run or export is the default
    for this one's."""
    output_dir: str = field(default="runs/vqa-{date}-{n}", metadata=FREE)
    """Where metrics.jsonl, config.yaml, checkpoints/ and results/ go. {date} is the day of the start, {n} the first
    number that is free; with --config FILE the default is runs/FILE-{date}-{n}."""
    seed: int = 0
    """Of new weights, shuffling, augmentation and dropout."""
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: Distillation = field(default_factory=Distillation)
    answers: Answers = field(default_factory=Answers)
    data: DataConfig = field(default_factory=lambda: DataConfig(max_words=50))
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=2e-5, warmup_lr=1e-5, min_lr=1e-6))
    train: TrainConfig = field(default_factory=lambda: TrainConfig(batch_size=32, epochs=8), metadata=FREE)
    eval: Eval = field(default_factory=Eval, metadata=FREE)


def check(config: Config, trains: bool = True) -> None:
    """InputError: the first impossible value. trains: data to train on are needed."""
    check_distillation(config.objective)
    names = ("max_tokens", "rank_k", "beams", "decoder_layers")
    check_at_least(1, {f"answers.{name}": getattr(config.answers, name) for name in names})
    names = ("every", "batch_size", "max_questions", "pass_tokens")
    check_at_least(1, {f"eval.{name}": getattr(config.eval, name) for name in names})
    if config.answers.list is not None:
        path = Path(config.answers.list)
        require(os.path.isfile(path), "answers.list", config.answers.list, "a file with one answer a line")
    check_model(config.model)
    check_train(config.train)
    check_data(config.data, trains)
    check_shards(config.data, trains)
    check_optim(config.optim)


def build(config: Config, accelerator: Accelerator) -> Task:
    """InputError: names that cannot be built, weights of another architecture, data.val or answers.list without use."""
    config.model.image = normalisation_of(config.model.image, config.init)  # and config.yaml remembers it
    tokenizer = load_tokenizer(config.model.text.tokenizer)
    if tokenizer.sep_token_id is None:
        raise InputError(
            f"model.text.tokenizer: {config.model.text.tokenizer!r} has no [SEP] token, in which answers end; use the "
            f"tokenizer of a BERT-like model"
        )
    encoders = build_encoders(config.model, len(tokenizer), tokenizer.pad_token_id)
    for section, tokens in (("data", config.data.max_tokens), ("answers", config.answers.max_tokens)):
        check_length(tokens, encoders.text_encoder.bert.config, f"{section}.max_tokens")
    weights = initial_weights(config.init) if config.init is not None else {}
    fine_tuned = any(name.startswith("networks.") for name in weights)
    notices = []
    if config.init is not None and not fine_tuned:
        inner = {name.removeprefix("encoders."): tensor for name, tensor in weights.items()}
        # Projections are pre-training's alone, and published retrieval checkpoints have no MLM head.
        # And a compression may be new, or be left out again.
        may_lack = ("vision_proj.", "text_proj.", "mlm_head.", COMPRESSION)
        notices = fill(encoders, inner, config.init, may_lack=may_lack, not_needed=("itm_head.", COMPRESSION))
    networks = build_networks(encoders, config.answers.decoder_layers)
    student = VQAStudent(networks)
    if fine_tuned:
        compression = (f"networks.{COMPRESSION}",)
        notices = fill(student, weights, config.init, may_lack=compression, not_needed=compression)
    data = config.data
    images = training_images(data, config.model.image, networks.image_encoder)
    notices += images.notices
    closed = config.answers.list
    candidates = None if closed is None else read_closed_list(Path(closed), "answers.list")
    evaluate = None
    if data.val is not None:
        questions, told = _questions(config, candidates)
        notices += told
        evaluate = partial(_evaluate, config=config, questions=questions, candidates=candidates, tokenizer=tokenizer)
    return Task(
        KIND,
        student,
        AnswerTeacher(networks, config.objective.momentum),
        tokenizer,
        QuestionReader(data, images.views, tokenizer, config.answers.max_tokens),
        prepare=images.prepare,
        evaluate=evaluate,
        activation_bytes=question_activation_bytes(
            networks,
            batch_size=config.train.batch_size,
            question_tokens=data.max_tokens,
            answer_tokens=config.answers.max_tokens,
            checkpointing=config.train.activation_checkpointing,
            bf16=accelerator.mixed_precision == "bf16",
        ),
        distillation=config.objective,
        notices=notices,
        answers=candidates,
    )


def _questions(config: Config, candidates: list[str] | None) -> tuple[QuestionSet, list[str]]:
    """Those of data.val, and what is to be said of them and of the closed list. InputError: no usable question."""
    data = config.data
    questions = load_question_set(
        data.val,
        max_questions=config.eval.max_questions,
        max_words=data.max_words,
        max_pixels=data.max_pixels,
        max_sample_bytes=data.max_sample_bytes,
    )
    told = [f"data.val: skipped {counted(questions.bad)}"] if questions.bad else []
    if candidates is not None:
        told.append(_missing_from_list(questions, candidates))
        if config.answers.rank_k > len(candidates):
            asked = f"answers.rank_k: {config.answers.rank_k:,}"
            told.append(f"{asked}, but answers.list holds {len(candidates):,}; all of them are ranked")
    return questions, told


def _missing_from_list(questions: QuestionSet, candidates: Sequence[str]) -> str:
    possible = {candidate.lower() for candidate in candidates}
    answered = [asked for asked in questions.questions if asked.answers]
    lost = sum(not any(" ".join(a.lower().split()) in possible for a in asked.answers) for asked in answered)
    return (
        f"answers.list: {len(candidates):,} answers; {lost:,} of {len(answered):,} questions of data.val have none of "
        f"theirs in it"
    )


def _evaluate(
    accelerator: Accelerator,
    student: nn.Module,
    *,
    config: Config,
    questions: QuestionSet,
    candidates: list[str] | None,
    tokenizer: PreTrainedTokenizerBase,
) -> Evaluation:
    """The score is the accuracy in percent; None where no question has an answer, as in a test split."""
    networks = student.networks
    image = networks.image_encoder
    if candidates is None:
        answer = partial(
            write_answers,
            decoder=networks.decoder,
            tokenizer=tokenizer,
            beams=config.answers.beams,
            max_tokens=config.answers.max_tokens,
        )
    else:
        ids, lengths = tokenize_answers(tokenizer, candidates, config.answers.max_tokens)
        answer = partial(
            choose_answers,
            decoder=networks.decoder,
            candidates=candidates,
            answers=AnswerList(ids.to(accelerator.device), lengths.to(accelerator.device)),
            rank_k=config.answers.rank_k,
            pass_tokens=config.eval.pass_tokens,
        )
    given = answer_questions(
        accelerator,
        networks,
        questions,
        partial(tokenize, tokenizer, max_tokens=config.data.max_tokens),
        eval_transform(config.model.image.image_size, image.mean, image.std),
        answer,
        batch_size=config.eval.batch_size,
        max_pixels=config.data.max_pixels,
        workers=config.data.workers,
    )
    answered = [
        AnsweredQuestion(asked.question_id, answer, list(asked.answers), asked.question_type, asked.answer_type)
        for asked, answer in zip(questions.questions, given, strict=True)
    ]

    def write(folder: Path) -> None:
        write_submission(folder / "answers.json", answered)

    scored = [one for one in answered if one.annotators]
    if not scored:
        line = f"{len(answered):,} questions answered, none of which has an answer to compare with"
        return Evaluation({}, None, line, write)
    metrics = accuracy_report(scored, {"vqa": vqa_accuracy, "exact": exact_match}[config.eval.metric])
    line = f"accuracy on {len(scored):,} questions: {metrics['accuracy']:.2f}"
    return Evaluation(metrics, metrics["accuracy"], line, write)
