"""Pre-training on image-text pairs by the objective that the configuration names, judged by zero-shot retrieval."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedTokenizerBase

from tcl import tasks
from tcl.checkpoints.initial import fill, initial_weights, normalisation_of
from tcl.config.data import DataConfig, check_data
from tcl.config.free import FREE
from tcl.config.model import ModelConfig, check_model
from tcl.config.optim import OptimConfig, check_optim
from tcl.config.retrieval_eval import EvalConfig, check_eval
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.config.train import TrainConfig, check_train
from tcl.data.feed.pair_reader import PairReader
from tcl.data.images.augment import eval_transform
from tcl.data.sets.retrieval_set import RetrievalSet, load_retrieval_set
from tcl.data.shards.list_shards import check_shards
from tcl.data.texts.tokenize import load_tokenizer
from tcl.declared import declared
from tcl.encoders.text_encoder import check_length
from tcl.evaluation.decoded_images import decoded_batches
from tcl.evaluation.rescoring_bank import load_bank
from tcl.models.compress_tokens import WEIGHTS as COMPRESSION
from tcl.models.training_images import training_images
from tcl.objectives.pair_objective import PairObjective, PairSizes, objective_named
from tcl.tasks.pretrain_judged import HeldOut, judge
from tcl.tasks.task import RunConfig, Task


@dataclass
class Config:
    """A pre-training run."""

    init: str | None = field(default=None, metadata=FREE)
    """Weights to start from: a run's output_dir, one of its step_* folders, an export, a student.safetensors, or a
    published .pth. None: random, or as `model` says. The `model` section of the run or export is the default for this
    one's."""
    output_dir: str = field(default="runs/pretrain-{date}-{n}", metadata=FREE)
    """Where metrics.jsonl, config.yaml and checkpoints/ go. {date} is the day of the start, {n} the first
    number that is free; with --config FILE the default is runs/FILE-{date}-{n}."""
    seed: int = 0
    """Of weights, queues, shuffling, augmentation, masking and dropout."""
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig, metadata=FREE)
    eval: EvalConfig = field(default_factory=EvalConfig, metadata=FREE)


def check(config: Config) -> None:
    """InputError: the first impossible value. Nothing is loaded; shards are only looked up."""
    objective_named(config.objective.name).check(config.objective, config.train)
    check_model(config.model)
    check_train(config.train)
    check_eval(config.eval)
    check_data(config.data)
    check_shards(config.data)
    check_optim(config.optim)


def build(config: Config, accelerator: Accelerator) -> Task:
    """InputError: names that cannot be built, weights of another architecture, data.val without use."""
    tokenizer = load_tokenizer(config.model.text.tokenizer)
    objective = objective_named(config.objective.name)
    student, notices = pair_student(config, objective, tokenizer)
    task = make_task_of(objective)(config, accelerator, objective, student, tokenizer, named_ids=False)
    task.notices += notices
    return task


def pair_student(
    config: RunConfig, objective: PairObjective, tokenizer: PreTrainedTokenizerBase
) -> tuple[nn.Module, list[str]]:
    """The student of `objective` with the weights of config.init, where there are any, and what is to be told of them.

    InputError: networks that cannot be built, weights of another architecture.
    """
    config.model.image = normalisation_of(config.model.image, config.init)  # and config.yaml remembers it
    student = objective.build_student(config.model, config.objective, tokenizer)
    if config.init is None:
        return student, []
    compression = (f"encoders.{COMPRESSION}",)  # which may be new, or be left out again
    may_lack = objective.kind.may_lack + objective.starts_random + compression
    not_needed = objective.not_needed + compression
    weights = objective.weights_from(initial_weights(config.init))
    return student, fill(student, weights, config.init, may_lack=may_lack, not_needed=not_needed)


def make_task_of(objective: PairObjective) -> Callable[..., Task]:
    """What makes the tasks of its runs, called as `pair_task`: the `make_task` of the file tcl/tasks/pretrain_NAME.py,
    where the objective NAME has one."""
    return declared(tasks, "make_task", f"pretrain_{objective.kind.name}") or pair_task


def pair_task(
    config: RunConfig,
    accelerator: Accelerator,
    objective: PairObjective,
    student: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    *,
    named_ids: bool,
) -> Task:
    """As `pair_training`, judged by retrieval on data.val; config.eval is an EvalConfig."""
    task = pair_training(config, accelerator, objective, student, tokenizer, named_ids=named_ids)
    if config.data.val is not None:
        image = student.encoders.image_encoder
        transform = eval_transform(config.model.image.image_size, image.mean, image.std)
        pairs = held_out_pairs(config)
        decode = partial(decoded_batches, transform=transform, max_pixels=config.data.max_pixels)
        judge(task, config, objective, HeldOut(pairs, _bank(config, pairs), decode))
    return task


def pair_training(
    config: RunConfig,
    accelerator: Accelerator,
    objective: PairObjective,
    student: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    *,
    named_ids: bool,
) -> Task:
    """Training of `student`, which `objective` built by config.objective, on image-text pairs; nothing judges it.

    named_ids: all pairs of an image are right for each other.
    """
    encoders, data = student.encoders, config.data
    check_length(data.max_tokens, encoders.text_encoder.bert.config, "data.max_tokens")
    images = training_images(data, config.model.image, encoders.image_encoder)
    sizes = pair_sizes(config, accelerator)
    reader = PairReader(
        data,
        images.views,
        tokenizer,
        mlm_probability=objective.masked_share(config.objective),
        two_views=objective.two_views,
        named_ids=named_ids,
    )
    return Task(
        objective.kind,
        student,
        objective.build_teacher(student, config.model, config.seed, named_ids),
        tokenizer,
        reader,
        prepare=images.prepare,
        evaluate=None,
        activation_bytes=objective.activation_bytes(student, config.objective, sizes),
        distillation=objective.distillation(config.objective),
        notices=images.notices + objective.notices(config.objective),
    )


def held_out_pairs(config: RunConfig) -> RetrievalSet:
    """Those of config.data.val; config.eval is an EvalConfig. InputError: no usable one."""
    data = config.data
    return load_retrieval_set(
        data.val,
        max_images=config.eval.max_images,
        max_words=data.max_words,
        max_pixels=data.max_pixels,
        max_sample_bytes=data.max_sample_bytes,
    )


def pair_sizes(config: RunConfig, accelerator: Accelerator) -> PairSizes:
    """What a forward pass of the run is estimated from."""
    return PairSizes(
        config.train.batch_size,
        config.data.max_tokens,
        config.model.lmi_regions,
        accelerator.num_processes,
        config.train.activation_checkpointing,
        bf16=accelerator.mixed_precision == "bf16",
    )


def _bank(config: RunConfig, evaluated: RetrievalSet) -> RetrievalSet | None:
    """That of config.eval, if any, and no words on what in it could not be used: that is training data as a rule."""
    if config.eval.rescore_bank is None:
        return None
    data = config.data
    return load_bank(
        config.eval.rescore_bank,
        evaluated,
        max_words=data.max_words,
        max_pixels=data.max_pixels,
        max_sample_bytes=data.max_sample_bytes,
    )
