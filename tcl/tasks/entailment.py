"""Visual entailment: does an image entail a text, contradict it, or neither (SNLI-VE, Xie et al. 2019)?

The text is the hypothesis alone: the premise was a caption of the image, and is never read. A head on the fused [CLS]
tells the class (ALBEF, section 5).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from accelerate import Accelerator
from transformers import PreTrainedTokenizerBase

from tcl.checkpoints.initial import fill, initial_teacher, initial_weights, normalisation_of
from tcl.config.checks import check_at_least
from tcl.config.data import DataConfig, check_data
from tcl.config.distillation import Distillation, check_distillation
from tcl.config.free import FREE
from tcl.config.model import ModelConfig, check_model
from tcl.config.optim import OptimConfig, check_optim
from tcl.config.train import TrainConfig, check_train
from tcl.data.feed.statement_reader import StatementReader
from tcl.data.images.augment import eval_transform
from tcl.data.sets.statement_set import Statements, statement_set
from tcl.data.sets.streamed_set import StreamedSet
from tcl.data.shards.list_shards import check_shards
from tcl.data.texts.statement import Form
from tcl.data.texts.tokenize import load_tokenizer
from tcl.encoders.text_encoder import check_length
from tcl.evaluation.classify_statements import ClassifiedStatements, classify_statements
from tcl.evaluation.statement_report import statement_line, statement_metrics, write_statement_report
from tcl.models.compress_tokens import WEIGHTS as COMPRESSION
from tcl.models.encoders import build_encoders
from tcl.models.fused_classifier import one_image_classifier
from tcl.models.training_images import training_images
from tcl.objectives.fused_classes import FusedClassStudent, FusedClassTeacher, OneImageGraph, activation_bytes
from tcl.objectives.kind import CardText, Kind
from tcl.tasks.task import Evaluation, RunConfig, Task

FORM = Form("hypothesis", ("contradiction", "neutral", "entailment"), ("image",))
"""Of samples: KEY.jpg and KEY.json with "hypothesis" and "label"."""
NOT_NEEDED = ("vision_proj.", "text_proj.", "mlm_head.", "itm_head.", "ta_head.")
"""What of a pre-trained model, or of one after text assignment, a classifier has no place for."""


def build_student(model: ModelConfig, tokenizer: PreTrainedTokenizerBase) -> FusedClassStudent:
    """InputError: networks that cannot be built."""
    encoders = build_encoders(model, len(tokenizer), tokenizer.pad_token_id)
    return FusedClassStudent(one_image_classifier(encoders, *FORM.images, len(FORM.classes)))


KIND = Kind(
    name="entailment",
    build=lambda model, parts, tokenizer: build_student(model, tokenizer),
    opened_by="tcl.inference.entailment_model:TCLForEntailment",
    card=CardText(
        what="Image and text are fused, and a head tells whether the image entails the text, contradicts it, or "
        "neither.",
        use="from tcl import TCLForEntailment\n\nmodel = TCLForEntailment.from_pretrained(folder_or_hub_id)",
    ),
    graph=OneImageGraph,
)


@dataclass
class Eval:
    """Classifying the texts of data.val."""

    every: int = 1000
    """Optimiser steps between evaluations, >= 1; the last step always evaluates."""
    batch_size: int = 64
    """Texts per forward pass, >= 1."""
    max_samples: int | None = None
    """Evaluate on the first this many samples, >= 1; None: on all."""


@dataclass
class Config:
    """Fine-tune on visual entailment, or evaluate it (--eval_only)."""

    task: str = "entailment"
    """Which file of tcl/tasks/ this is."""
    init: str | None = field(default=None, metadata=FREE)
    """Weights to start from: a run's output_dir, one of its step_* folders, an export, a student.safetensors, or a
    published .pth, pre-trained or fine-tuned. None: random. The `model` section of the run or export is the default
    for this one's."""
    output_dir: str = field(default="runs/entailment-{date}-{n}", metadata=FREE)
    """Where metrics.jsonl, config.yaml, checkpoints/ and results/ go. {date} is the day of the start, {n} the first
    number that is free; with --config FILE the default is runs/FILE-{date}-{n}."""
    seed: int = 0
    """Of new weights, shuffling, augmentation and dropout."""
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: Distillation = field(default_factory=lambda: Distillation(alpha_ramp_epochs=0.0))
    data: DataConfig = field(default_factory=lambda: DataConfig(max_tokens=64))
    optim: OptimConfig = field(
        default_factory=lambda: OptimConfig(lr=2e-5, warmup_lr=1e-5, min_lr=1e-6, warmup_steps=100)
    )
    train: TrainConfig = field(default_factory=lambda: TrainConfig(batch_size=32, epochs=5), metadata=FREE)
    eval: Eval = field(default_factory=Eval, metadata=FREE)


def check(config: Config, trains: bool = True) -> None:
    """InputError: the first impossible value. trains: data to train on are needed."""
    check_distillation(config.objective)
    check_at_least(1, {f"eval.{name}": getattr(config.eval, name) for name in ("every", "batch_size", "max_samples")})
    check_model(config.model)
    check_train(config.train)
    check_data(config.data, trains)
    check_shards(config.data, trains)
    check_optim(config.optim)


def build(config: Config, accelerator: Accelerator) -> Task:
    """InputError: names that cannot be built, weights of another architecture, data.val without shards."""
    config.model.image = normalisation_of(config.model.image, config.init)  # and config.yaml remembers it
    tokenizer = load_tokenizer(config.model.text.tokenizer)
    student = build_student(config.model, tokenizer)
    notices = [] if config.init is None else start_from(config.init, student)
    task = statement_task(config, accelerator, KIND, FORM, student, tokenizer, notices, evaluate)
    if config.init is not None and config.objective.alpha > 0:
        _start_teacher(config.init, task.teacher)
    return task


def _start_teacher(init: str, teacher: FusedClassTeacher) -> None:
    """As published, from the teacher of `init` where it has one, else it stays a copy of the student, as its head does.
    Frozen parts are the student's own."""
    own = teacher.networks.state_dict()
    for name, tensor in initial_teacher(init).items():
        inner = name.removeprefix("encoders.").removeprefix("networks.")
        if inner in own:
            own[inner] = tensor
    fill(teacher.networks, own, init)


def start_from(
    init: str, student: FusedClassStudent, rename: Callable[[dict], dict] = lambda weights: weights
) -> list[str]:
    """Load the weights of `init`: of a classifier with its head, of a pre-trained model what it needs, as `rename`
    calls it. What is to be said of it. InputError: no weights, or those of another architecture."""
    weights = initial_weights(init)
    # A compression may be new, or be left out again.
    if any(name.startswith("networks.cls_head.") for name in weights):
        compression = (f"networks.{COMPRESSION}",)
        return fill(student, weights, init, may_lack=compression, not_needed=compression)
    inner = {name.removeprefix("encoders."): tensor for name, tensor in rename(weights).items()}
    may_lack, not_needed = ("cls_head.", COMPRESSION), (*NOT_NEEDED, COMPRESSION)
    return fill(student.networks, inner, init, may_lack=may_lack, not_needed=not_needed)


def statement_task(
    config: RunConfig,
    accelerator: Accelerator,
    kind: Kind,
    form: Form,
    student: FusedClassStudent,
    tokenizer: PreTrainedTokenizerBase,
    notices: list[str],
    evaluate: Callable[[ClassifiedStatements], Evaluation],
) -> Task:
    """Training of `student`, whose weights are there already, on samples of `form`; evaluate: what is to be said of
    those of config.data.val."""
    networks, data = student.networks, config.data
    encoder = networks.image_encoder
    images = training_images(data, config.model.image, encoder, form.images)
    check_length(data.max_tokens, networks.text_encoder.bert.config, "data.max_tokens")
    judge = None
    if data.val is not None:
        transform = eval_transform(config.model.image.image_size, encoder.mean, encoder.std)
        statements = statement_set(data, form, tokenizer, transform, config.eval.max_samples)
        judge = partial(_judge, statements=statements, batch_size=config.eval.batch_size, evaluate=evaluate)
    return Task(
        kind,
        student,
        FusedClassTeacher(networks, config.objective.momentum),
        tokenizer,
        StatementReader(data, images.views, tokenizer, form),
        prepare=images.prepare,
        evaluate=judge,
        activation_bytes=activation_bytes(
            networks,
            batch_size=config.train.batch_size,
            max_tokens=data.max_tokens,
            checkpointing=config.train.activation_checkpointing,
            bf16=accelerator.mixed_precision == "bf16",
        ),
        distillation=config.objective,
        notices=notices + images.notices,
    )


def _judge(
    accelerator: Accelerator,
    student: FusedClassStudent,
    *,
    statements: StreamedSet[Statements],
    batch_size: int,
    evaluate: Callable[[ClassifiedStatements], Evaluation],
) -> Evaluation:
    return evaluate(classify_statements(accelerator, student.networks, statements, batch_size))


def evaluate(found: ClassifiedStatements) -> Evaluation:
    """The score is the accuracy in percent."""
    metrics = statement_metrics(found, FORM.classes)
    write = partial(write_statement_report, found=found, classes=FORM.classes)
    return Evaluation(metrics, metrics["accuracy"], statement_line(found, metrics), write)
