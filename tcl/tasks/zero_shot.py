"""Zero-shot classification: an image belongs to the class whose text it is nearest to (CLIP, Radford et al. 2021).

Nothing is trained: `tcl evaluate --task zero_shot`.
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tcl.checkpoints.initial import fill, initial_weights, normalisation_of
from tcl.config.checks import check_at_least
from tcl.config.data import DataConfig, check_data
from tcl.config.free import FREE
from tcl.config.model import ModelConfig, check_model
from tcl.config.train import TrainConfig, check_train
from tcl.data.feed.labelled_reader import LabelledReader
from tcl.data.images.augment import eval_transform
from tcl.data.images.pixel_views import PixelViews
from tcl.data.sets.labelled_set import LabelledImages, labelled_set
from tcl.data.sets.streamed_set import StreamedSet
from tcl.data.shards.list_shards import check_shards
from tcl.data.texts.captions import clean_caption
from tcl.data.texts.class_list import read_class_list, read_templates
from tcl.data.texts.tokenize import load_tokenizer, tokenize
from tcl.encoders.text_encoder import check_length
from tcl.errors import InputError
from tcl.models.no_teacher import NoTeacher
from tcl.models.preparation import image_preparation
from tcl.objectives.pair_objective import objective_named
from tcl.search.class_prompts import TEMPLATES, class_features, class_prompts
from tcl.search.text_passes import embed_texts
from tcl.tasks.classification import evaluate_classes
from tcl.tasks.task import Evaluation, Task


@dataclass
class Eval:
    """Classifying the images of data.val."""

    batch_size: int = 64
    """Images per forward pass, >= 1."""
    max_samples: int | None = None
    """Evaluate on the first this many samples, >= 1; None: on all."""
    pass_tokens: int = 8192
    """Text tokens in one pass, padding included, >= 1: bounds its memory."""


@dataclass
class Config:
    """Evaluate zero-shot classification; nothing is trained."""

    task: str = "zero_shot"
    """Which file of tcl/tasks/ this is."""
    init: str | None = field(default=None, metadata=FREE)
    """The model: a run's output_dir, one of its step_* folders, an export, a student.safetensors, or a published .pth
    of pre-training or retrieval. The `model` section of the run or export is the default for this one's."""
    output_dir: str = field(default="runs/zero_shot-{date}-{n}", metadata=FREE)
    """Where results/ goes. {date} is the day of the start, {n} the first
    number that is free; with --config FILE the default is runs/FILE-{date}-{n}."""
    classes: str | None = None
    """File of the names of the classes, one a line, two at least. A sample's label is one of them, or its place from
    0: "label" in its JSON, or its .cls file."""
    templates: str | None = None
    """File of templates, one a line, with {} where the name goes; a class is the mean of its prompts' embeddings. None:
    "a photo of a {}." alone."""
    seed: int = 0
    """Of whatever the weights lack."""
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig, metadata=FREE)
    eval: Eval = field(default_factory=Eval, metadata=FREE)


def check(config: Config, trains: bool = True) -> None:
    """InputError: the first impossible value; trains: nothing is trained here."""
    if trains:
        raise InputError("task: zero_shot trains nothing; evaluate with `tcl evaluate --task zero_shot`")
    if config.classes is None:
        raise InputError("classes: none; give a file with the names of the classes, one a line")
    names = ("batch_size", "max_samples", "pass_tokens")
    check_at_least(1, {f"eval.{name}": getattr(config.eval, name) for name in names})
    check_model(config.model)
    check_train(config.train)
    check_data(config.data, trains)
    check_shards(config.data, trains)


def build(config: Config, accelerator: Accelerator) -> Task:
    """InputError: no weights of a model with embeddings, networks that cannot be built, no usable classes, templates or
    data.val."""
    if config.init is None:
        raise InputError("init: none, but there is nothing else to evaluate; give --init a run or a checkpoint")
    names = read_class_list(Path(config.classes), "classes")
    templates = TEMPLATES if config.templates is None else read_templates(Path(config.templates), "templates")
    weights = initial_weights(config.init)
    if "encoders.text_proj.weight" not in weights:
        raise InputError(
            f"init: {config.init} has no embeddings that images and texts share; give a model of pre-training or "
            f"retrieval"
        )
    config.model.image = normalisation_of(config.model.image, config.init)
    tokenizer = load_tokenizer(config.model.text.tokenizer)
    fuses = any(name.startswith("encoders.fusion_encoder.") for name in weights)
    objective = objective_named("tcl" if fuses else "clip")
    student = objective.build_student(config.model, objective.Config(), tokenizer)
    notices = fill(student, weights, config.init, may_lack=objective.kind.may_lack)
    check_length(config.data.max_tokens, student.encoders.text_encoder.bert.config, "data.max_tokens")
    ids, mask, cut = _tokenized(class_prompts(names, templates), tokenizer, config.data)
    evaluate = None
    if config.data.val is not None:
        image = student.encoders.image_encoder
        transform = eval_transform(config.model.image.image_size, image.mean, image.std)
        images = labelled_set(config.data, names, transform, config.eval.max_samples)
        evaluate = partial(
            _evaluate, images=images, names=names, ids=ids, mask=mask, templates=len(templates), config=config.eval
        )
    return Task(
        objective.kind,
        student,
        NoTeacher(),
        tokenizer,
        LabelledReader(PixelViews(config.data, config.model.image.image_size), names),
        prepare=image_preparation(student.encoders.image_encoder),
        evaluate=evaluate,
        activation_bytes=0,
        notices=notices + cut,
    )


def _tokenized(
    prompts: list[str], tokenizer: PreTrainedTokenizerBase, data: DataConfig
) -> tuple[Tensor, Tensor, list[str]]:
    """Ids and mask [P, L] of prompts, cleaned as captions are, and what is to be said of those that were cut.

    InputError: one of which nothing is left.
    """
    whole = [clean_caption(prompt, data.max_words + 1) for prompt in prompts]
    ids, mask = tokenize(tokenizer, [" ".join(text.split()[: data.max_words]) for text in whole], data.max_tokens + 1)
    empty = next((prompt for prompt, there in zip(prompts, mask[:, 1:].any(dim=1), strict=True) if not there), None)
    if empty is not None:
        raise InputError(f"classes: of the prompt {empty!r} no words are left; give names of words, or other templates")
    longer = mask[:, data.max_tokens :].any(dim=1).tolist()
    cut = sum(more or len(text.split()) > data.max_words for more, text in zip(longer, whole, strict=True))
    limits = f"data.max_words ({data.max_words}) or data.max_tokens ({data.max_tokens})"
    told = [f"classes: {cut:,} of {len(prompts):,} prompts are longer than {limits}, and were cut"] if cut else []
    return ids[:, : data.max_tokens], mask[:, : data.max_tokens], told


def _evaluate(
    accelerator: Accelerator,
    student: nn.Module,
    *,
    images: StreamedSet[LabelledImages],
    names: list[str],
    ids: Tensor,
    mask: Tensor,
    templates: int,
    config: Eval,
) -> Evaluation:
    student.eval()
    encoders, device = student.encoders, accelerator.device
    no_bar = None if accelerator.is_main_process else True
    how = {"pass_tokens": config.pass_tokens, "device": device, "autocast": accelerator.autocast, "no_bar": no_bar}
    classes = class_features(embed_texts(encoders.embed_ids, ids, mask, **how), templates).to(device)

    def logits(image: Tensor) -> Tensor:
        features = encoders.embed_images(encoders.image_encoder(image))
        with torch.autocast(device.type, enabled=False):
            return features @ classes.T / student.temperature

    return evaluate_classes(accelerator, student, images, names, logits, config.batch_size)
