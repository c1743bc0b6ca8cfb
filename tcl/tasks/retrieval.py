"""Image-text retrieval: the alignment losses and ITM, fine-tuned with all pairs of an image as positives.

Two-stage evaluation (tcl.evaluation.evaluate_retrieval) on data.val: with --eval_only also zero-shot.
"""

from dataclasses import dataclass, field

from accelerate import Accelerator

from tcl.config.data import DataConfig, check_data
from tcl.config.free import FREE
from tcl.config.model import ModelConfig, check_model
from tcl.config.optim import OptimConfig, check_optim
from tcl.config.retrieval_eval import EvalConfig, check_eval
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.config.train import TrainConfig, check_train
from tcl.data.shards.list_shards import check_shards
from tcl.data.texts.tokenize import load_tokenizer
from tcl.objectives.pair_objective import objective_named
from tcl.tasks.pretrain import make_task_of, pair_student
from tcl.tasks.task import Task


@dataclass
class Config:
    """Fine-tune on image-text retrieval, or evaluate it (--eval_only)."""

    task: str = "retrieval"
    """Which file of tcl/tasks/ this is."""
    init: str | None = field(default=None, metadata=FREE)
    """Weights to start from: a run's output_dir, one of its step_* folders, an export, a student.safetensors, or a
    published .pth. None: random. The `model` section of the run or export is the default for this one's."""
    output_dir: str = field(default="runs/retrieval-{date}-{n}", metadata=FREE)
    """Where metrics.jsonl, config.yaml, checkpoints/ and results/ go. {date} is the day of the start, {n} the first
    number that is free; with --config FILE the default is runs/FILE-{date}-{n}."""
    seed: int = 0
    """Of the queues, shuffling, augmentation and dropout."""
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=lambda: ObjectiveConfig(mlm_weight=0.0))
    data: DataConfig = field(default_factory=lambda: DataConfig(max_tokens=30))
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=1e-5, warmup_lr=1e-5, min_lr=1e-6))
    train: TrainConfig = field(default_factory=lambda: TrainConfig(batch_size=32, epochs=5), metadata=FREE)
    eval: EvalConfig = field(default_factory=lambda: EvalConfig(max_images=None, rerank_k=128), metadata=FREE)


def check(config: Config, trains: bool = True) -> None:
    """InputError: the first impossible value. trains: data to train on are needed."""
    objective_named(config.objective.name).check(config.objective, config.train)
    check_model(config.model)
    check_train(config.train)
    check_eval(config.eval)
    check_data(config.data, trains)
    check_shards(config.data, trains)
    check_optim(config.optim)


def build(config: Config, accelerator: Accelerator) -> Task:
    """InputError: names that cannot be built, weights of another architecture, data.val without use."""
    tokenizer = load_tokenizer(config.model.text.tokenizer)
    objective = objective_named(config.objective.name)
    student, notices = pair_student(config, objective, tokenizer)
    task = make_task_of(objective)(config, accelerator, objective, student, tokenizer, named_ids=True)
    task.notices += notices
    return task
