"""A compression of image tokens for a finished model: all else is frozen, and stays to the bit.

    tcl finetune --task compress --init RUN --model.fusion.image_tokens 16

What comes out is the same model with few tokens an image for its fusion encoder: embeddings and first stage are what
they were, and it is evaluated, loaded and exported as the model was.
"""

from dataclasses import dataclass, field

from accelerate import Accelerator

from tcl.checkpoints.initial import fill, initial_weights, normalisation_of
from tcl.config.checks import require
from tcl.config.compression_objective import CompressionObjectiveConfig
from tcl.config.data import DataConfig, check_data
from tcl.config.free import FREE
from tcl.config.model import FusionConfig, ModelConfig, check_model
from tcl.config.optim import OptimConfig, check_optim
from tcl.config.retrieval_eval import EvalConfig, check_eval
from tcl.config.train import TrainConfig, check_train
from tcl.data.shards.list_shards import check_shards
from tcl.data.texts.tokenize import load_tokenizer
from tcl.errors import InputError
from tcl.models.compress_tokens import WEIGHTS
from tcl.objectives.compression import COMPRESSION
from tcl.tasks.pretrain import pair_task
from tcl.tasks.task import Task


@dataclass
class Config:
    """Train a compression of image tokens for a finished model, or evaluate a model with one (--eval_only)."""

    task: str = "compress"
    """Which file of tcl/tasks/ this is."""
    init: str | None = field(default=None, metadata=FREE)
    """The model: a run's output_dir, one of its step_* folders, an export, a student.safetensors, or a published .pth
    of pre-training or retrieval. The `model` section of the run or export is the default for this one's."""
    output_dir: str = field(default="runs/compress-{date}-{n}", metadata=FREE)
    """Where metrics.jsonl, config.yaml, checkpoints/ and results/ go. {date} is the day of the start, {n} the first
    number that is free; with --config FILE the default is runs/FILE-{date}-{n}."""
    seed: int = 0
    """Of the compression, shuffling, augmentation and masking."""
    model: ModelConfig = field(default_factory=lambda: ModelConfig(fusion=FusionConfig(image_tokens=16)))
    objective: CompressionObjectiveConfig = field(default_factory=CompressionObjectiveConfig)
    data: DataConfig = field(default_factory=lambda: DataConfig(max_tokens=30))
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-3, warmup_steps=100))
    train: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=2), metadata=FREE)
    eval: EvalConfig = field(default_factory=EvalConfig, metadata=FREE)


def check(config: Config, trains: bool = True) -> None:
    """InputError: the first impossible value. trains: data to train on are needed."""
    COMPRESSION.check(config.objective, config.train)
    check_model(config.model)
    tokens = config.model.fusion.image_tokens
    require(tokens is not None, "model.fusion.image_tokens", tokens, "a number of tokens, to which to compress")
    check_train(config.train)
    check_eval(config.eval)
    check_data(config.data, trains)
    check_shards(config.data, trains)
    check_optim(config.optim)


def build(config: Config, accelerator: Accelerator) -> Task:
    """InputError: no weights of a model that matches, names that cannot be built, data.val without use."""
    if config.init is None:
        raise InputError(
            "init: none, but a compression is learned for a finished model; give --init a run or a checkpoint"
        )
    config.model.image = normalisation_of(config.model.image, config.init)
    tokenizer = load_tokenizer(config.model.text.tokenizer)
    student = COMPRESSION.build_student(config.model, config.objective, tokenizer)
    weights = initial_weights(config.init)
    if "itm_head.weight" not in weights:
        raise InputError(
            f"init: {config.init} cannot match images with texts; give a model of pre-training or retrieval"
        )
    may_lack = () if config.objective.mlm_weight > 0 else COMPRESSION.kind.may_lack
    notices = fill(student, weights, config.init, may_lack=(*may_lack, f"encoders.{WEIGHTS}"))
    task = pair_task(config, accelerator, COMPRESSION, student, tokenizer, named_ids=True)
    task.notices += notices
    return task
