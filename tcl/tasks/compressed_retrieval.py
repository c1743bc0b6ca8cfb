"""Retrieval from codes (HCQ, arXiv 2202.03384): a model that keeps tens of bytes of an image to find it by.

Trained are heads and codebooks, with them the towers (unless model.image.frozen and model.text.frozen) and, with
objective.itm_weight, the fusion encoder; not the projections and the MLM head of the model that it starts from. Judged
on data.val by search as the heads have it (full precision), by table search in codes with queries as they are
(quantised_), and by ITM on what that finds (rerank_).
"""

from dataclasses import asdict, dataclass, field
from functools import partial

from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedTokenizerBase

from tcl.checkpoints.initial import description_of, fill, initial_weights, normalisation_of
from tcl.config.checks import require
from tcl.config.data import DataConfig, check_data
from tcl.config.free import FREE
from tcl.config.model import ModelConfig, check_model
from tcl.config.optim import OptimConfig, check_optim
from tcl.config.quantise import (
    CodeSizes,
    CompressedObjective,
    QuantiseConfig,
    check_code_sizes,
    check_compressed_objective,
    check_quantise,
)
from tcl.config.retrieval_eval import EvalConfig, check_eval
from tcl.config.train import TrainConfig, check_train
from tcl.data.feed.loader import open_sources
from tcl.data.feed.pair_reader import PairReader
from tcl.data.images.augment import eval_transform
from tcl.data.sets.retrieval_set import RetrievalSet
from tcl.data.shards.bad_sample import counted
from tcl.data.shards.list_shards import check_shards
from tcl.data.texts.tokenize import load_tokenizer, tokenize
from tcl.encoders.text_encoder import check_length
from tcl.errors import InputError
from tcl.evaluation.decoded_images import decoded_batches
from tcl.evaluation.evaluate_retrieval import cut_rerank_k, evaluate_retrieval
from tcl.models.no_teacher import NoTeacher
from tcl.models.training_images import training_images
from tcl.objectives.codebook_teacher import CodebookTeacher
from tcl.objectives.compressed_retrieval import CompressedStudent, activation_bytes, build_compressed
from tcl.objectives.kind import CardText, Kind
from tcl.search.codes import checked_codes
from tcl.tasks.pretrain import held_out_pairs, pair_sizes
from tcl.tasks.pretrain_judged import write_retrieval
from tcl.tasks.task import Evaluation, Task


@dataclass
class Parts(CodeSizes):
    """What describes a model with codes beside its `model`."""

    def check(self, place: str) -> None:
        """InputError: sizes that no codes have."""
        check_code_sizes(self, f"{place}: ")


def build_student(model: ModelConfig, parts: Parts, tokenizer: PreTrainedTokenizerBase) -> CompressedStudent:
    """InputError: networks that cannot be built."""
    return build_compressed(model, CompressedObjective(), QuantiseConfig(**asdict(parts)), tokenizer)


KIND = Kind(
    name="compressed_retrieval",
    build=build_student,
    opened_by="tcl.inference.compressed_model:TCLForCompressedRetrieval",
    card=CardText(
        what="Images and texts that find each other by codes of a few bytes, and a fusion encoder that re-ranks pairs.",
        use="from tcl import TCLForCompressedRetrieval\n\n"
        "model = TCLForCompressedRetrieval.from_pretrained(folder_or_hub_id)",
    ),
    Parts=Parts,
    parts_of=lambda student: Parts(**vars(student.encoders.heads.sizes)),
    may_lack=("encoders.mlm_head.",),
)


@dataclass
class Config:
    """Fine-tune a model so that it is searched by codes, or evaluate one (--eval_only)."""

    task: str = "compressed_retrieval"
    """Which file of tcl/tasks/ this is."""
    init: str | None = field(default=None, metadata=FREE)
    """Weights to start from: a run's output_dir, one of its step_* folders, an export, a student.safetensors, or a
    published .pth, of pre-training, retrieval or this task. None: random. The `model` section of the run or export is
    the default for this one's."""
    output_dir: str = field(default="runs/compressed_retrieval-{date}-{n}", metadata=FREE)
    """Where metrics.jsonl, config.yaml, checkpoints/ and results/ go. {date} is the day of the start, {n} the first
    number that is free; with --config FILE the default is runs/FILE-{date}-{n}."""
    seed: int = 0
    """Of heads and codebooks, shuffling, augmentation and dropout."""
    model: ModelConfig = field(default_factory=ModelConfig)
    quantise: QuantiseConfig = field(default_factory=QuantiseConfig)
    objective: CompressedObjective = field(default_factory=CompressedObjective)
    data: DataConfig = field(default_factory=lambda: DataConfig(max_tokens=30))
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=5e-5, warmup_lr=1e-5, min_lr=1e-6))
    train: TrainConfig = field(default_factory=lambda: TrainConfig(batch_size=64, epochs=10), metadata=FREE)
    eval: EvalConfig = field(default_factory=lambda: EvalConfig(max_images=None, rerank_k=128), metadata=FREE)


def check(config: Config, trains: bool = True) -> None:
    """InputError: the first impossible value. trains: data to train on are needed; without them, codebooks are."""
    check_quantise(config.quantise)
    check_model(config.model)
    check_train(config.train)
    check_compressed_objective(config.objective, config.train.batch_size)
    check_eval(config.eval)
    require(config.eval.rescore == "none", "eval.rescore", config.eval.rescore, "none: codes are searched as they are")
    check_data(config.data, trains)
    check_shards(config.data, trains)
    check_optim(config.optim)
    if not trains and config.init is not None:
        said = description_of(config.init)
        if said is not None and said.kind != KIND.name:
            raise _without_codebooks(config.init)


def build(config: Config, accelerator: Accelerator) -> Task:
    """InputError: names that cannot be built, weights or codes of another architecture, too few data for the codebooks,
    data.val without use."""
    config.model.image = normalisation_of(config.model.image, config.init)  # and config.yaml remembers it
    data = config.data
    tokenizer = load_tokenizer(config.model.text.tokenizer)
    student = build_compressed(config.model, config.objective, config.quantise, tokenizer)
    encoders = student.encoders
    check_length(data.max_tokens, encoders.text_encoder.bert.config, "data.max_tokens")
    notices = [] if config.init is None else _start_from(config, student)
    images = training_images(data, config.model.image, encoders.image_encoder)
    notices += images.notices
    evaluate = None
    if data.val is not None:
        pairs = held_out_pairs(config)
        notices += cut_rerank_k(config.eval.rerank_k, pairs, "eval.rerank_k")
        notices += [f"data.val: skipped {counted(pairs.bad)}"] if pairs.bad else []
        evaluate = partial(_evaluate, pairs=pairs, config=config, tokenizer=tokenizer)
    code = config.quantise
    notices.append(f"codes: {(1 + code.levels) * code.parts:,} bytes for each image or text")
    return Task(
        KIND,
        student,
        _teacher(config, student, accelerator.num_processes) if data.train else NoTeacher(),
        tokenizer,
        PairReader(data, images.views, tokenizer, mlm_probability=0.0, two_views=False, named_ids=True),
        prepare=images.prepare,
        evaluate=evaluate,
        activation_bytes=activation_bytes(student, pair_sizes(config, accelerator)),
        notices=notices,
    )


def _start_from(config: Config, student: CompressedStudent) -> list[str]:
    """Load the weights of config.init, with heads and codebooks where they are of this task. What is to be said of it.

    InputError: another architecture, other sizes of the codes, or nothing to train on and no codebooks.
    """
    weights, said = initial_weights(config.init), description_of(config.init)
    heads = "encoders.heads."
    if any(name.startswith(heads) for name in weights):
        theirs = said.parts if said is not None and said.kind == KIND.name else {}
        for name, value in theirs.items():
            own = getattr(config.quantise, name)
            require(own == value, f"quantise.{name}", own, f"{value}, as in the codes of init, {config.init}")
        return fill(student, weights, config.init, may_lack=KIND.may_lack)
    if not config.data.train:
        raise _without_codebooks(config.init)
    notices = fill(student, weights, config.init, may_lack=(*KIND.may_lack, heads))
    student.temperature.data.fill_(config.quantise.temperature)
    return [*notices, f"init: {config.init} has no codes: their heads and codebooks start random"]


def _without_codebooks(init: str) -> InputError:
    return InputError(f"init: {init} has no codebooks; give a run or an export of --task {KIND.name}")


def _teacher(config: Config, student: CompressedStudent, processes: int) -> CodebookTeacher:
    """InputError: an epoch of data.train has fewer vectors than there are codewords to fit to them."""
    train, code = config.train, config.quantise
    samples = sum(source.samples for source in open_sources(config.data.train))
    step_pairs = train.batch_size * train.accumulate_steps * processes
    pairs = max(samples // step_pairs, 1) * step_pairs  # of the shortest epoch
    refits = code.assignment == "straight_through"
    vectors = 2 * (min(pairs, code.refit_pairs) if refits else samples)
    if vectors < code.codewords:
        raise InputError(
            f"quantise.codewords: {code.codewords} to fit to {vectors:,} vectors, images and texts, of an epoch of "
            f"data.train; give at most as many codewords, or more data"
        )
    return CodebookTeacher(
        student.encoders.heads,
        samples=max(samples, 1),
        step_pairs=step_pairs,
        epochs=train.epochs if train.steps is None else max(-(-train.steps * step_pairs // max(samples, 1)), 1),
        refit_pairs=code.refit_pairs if refits else None,
        refit_rounds=code.refit_rounds,
    )


def _evaluate(
    accelerator: Accelerator,
    student: nn.Module,
    *,
    pairs: RetrievalSet,
    config: Config,
    tokenizer: PreTrainedTokenizerBase,
) -> Evaluation:
    """The score is the mean of all recalls in percent, of codes, re-ranked where they are."""
    encoders, image, data = student.encoders, student.encoders.image_encoder, config.data
    transform = eval_transform(config.model.image.image_size, image.mean, image.std)
    reading = {"transform": transform, "max_pixels": data.max_pixels, "workers": data.workers}
    found = evaluate_retrieval(
        accelerator,
        student,
        pairs,
        partial(decoded_batches, pairs.images, **reading),
        partial(tokenize, tokenizer, max_tokens=data.max_tokens),
        config=config.eval,
        store=lambda embeddings: checked_codes(encoders.codes_of(embeddings), encoders.heads.quantiser.codewords),
    )
    shown = ", ".join(f"{name} {value:.1f}" for name, value in found.metrics.items() if "_r" in name)
    score = found.metrics["rerank_mean" if config.eval.rerank_k > 0 else "quantised_mean"]
    line = f"retrieval of {len(pairs.images)} images x {len(pairs.captions)} texts from codes: {shown}"
    return Evaluation(found.metrics, score, line, partial(write_retrieval, found=found, pairs=pairs, config=config))
