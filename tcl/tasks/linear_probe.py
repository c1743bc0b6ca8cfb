"""Linear probe: how well a linear classifier tells classes from what a frozen encoder makes of video, sound or images.

Nothing of the model is trained: `tcl evaluate --task linear_probe`. Features are those before the heads, as published
(MMV, arXiv 2006.16228, and deepmind-research, mmv/eval_ucf101.py).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn

from tcl.checkpoints.initial import description_of, fill, initial_weights, normalisation_of
from tcl.config.checks import check_at_least, require
from tcl.config.data import DataConfig, check_data
from tcl.config.free import FREE
from tcl.config.model import ModelConfig, check_model
from tcl.config.train import TrainConfig, check_train
from tcl.data.batch import Batch
from tcl.data.feed.picture_reader import PictureReader
from tcl.data.sets.probe_set import PlacedReader, View, probe_set
from tcl.data.shards.list_shards import check_shards, list_shards
from tcl.data.texts.class_list import read_class_list
from tcl.encoders.audio import encoder_of_sounds
from tcl.encoders.build_image_encoder import build_image_encoder
from tcl.encoders.video import build_video_encoder, clip_features
from tcl.errors import InputError
from tcl.evaluation.class_report import accuracies, report_line, write_report
from tcl.evaluation.classify_images import BEST, Classified
from tcl.evaluation.linear_svm import decision_values, require_scikit_learn
from tcl.evaluation.probe_features import Features, read_features
from tcl.models.no_teacher import NoTeacher
from tcl.models.preparation import image_preparation
from tcl.tasks.classification import KIND as CLASSIFICATION
from tcl.tasks.task import Evaluation, Task


@dataclass
class Probe:
    """What is probed, and how."""

    features: Literal["video", "audio", "image"] = "video"
    """Of clips, of sounds, alone or beside a video or an image, or of images. The mean over a clip's frames of their
    global token, or that of the sound or the image."""
    train: str | None = None
    """Labelled shards from which the classifier learns, as data.val, on which it is judged."""
    folds: str | None = None
    """In place of `train`, cross-validation on data.val: the field of a sample's JSON that names its fold. Each fold is
    judged by a classifier that learned from all others."""
    C: float = 0.001
    """Of scikit-learn's LinearSVC, > 0. 0.001 as published for UCF101."""
    passes: int = 0
    """Views of each sample to learn from, >= 0, drawn and augmented as data.augment says. 10 as published. 0: those by
    which it would be judged."""
    windows: int = 1
    """Views by which a clip or a sound is judged, >= 1, evenly over its length, from its beginning to its end; the mean
    of what is said of them counts. 10 as published. 1: the middle."""


@dataclass
class Eval:
    """Reading the features."""

    batch_size: int = 64
    """Clips, sounds or images per forward pass, >= 1."""


@dataclass
class Config:
    """Evaluate by a linear probe; nothing of the model is trained."""

    task: str = "linear_probe"
    """Which file of tcl/tasks/ this is."""
    init: str | None = field(default=None, metadata=FREE)
    """The model: a run's output_dir, one of its step_* folders, an export, a student.safetensors, or a published .pth,
    with an encoder of what is probed. The `model` section of the run or export is the default for this one's."""
    output_dir: str = field(default="runs/linear_probe-{date}-{n}", metadata=FREE)
    """Where results/ goes. {date} is the day of the start, {n} the first
    number that is free; with --config FILE the default is runs/FILE-{date}-{n}."""
    classes: str | None = None
    """File of the names of the classes, one a line, two at least. A sample's label is one of them, or its place from
    0: "label" in its JSON, or its .cls file."""
    seed: int = 0
    """Of the views that are drawn."""
    model: ModelConfig = field(default_factory=ModelConfig)
    probe: Probe = field(default_factory=Probe)
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig, metadata=FREE)
    eval: Eval = field(default_factory=Eval, metadata=FREE)


def check(config: Config, trains: bool = True) -> None:
    """InputError: the first impossible value; trains: no model is trained here."""
    if trains:
        raise InputError("task: linear_probe trains no model; evaluate with `tcl evaluate --task linear_probe`")
    if config.classes is None:
        raise InputError("classes: none; give a file with the names of the classes, one a line")
    probe = config.probe
    if probe.train is None and probe.folds is None:
        raise InputError(
            "probe.train: none; give labelled shards to learn from, or as probe.folds the field of a sample's JSON "
            "that names its fold"
        )
    if probe.train is not None and probe.folds is not None:
        raise InputError(f"probe.folds: {probe.folds!r}, but there is probe.train, too; give one of them")
    require(0 < probe.C < math.inf, "probe.C", probe.C, "a number > 0")
    check_at_least(0, {"probe.passes": probe.passes})
    check_at_least(1, {"probe.windows": probe.windows, "eval.batch_size": config.eval.batch_size})
    check_model(config.model)
    check_train(config.train)
    check_data(config.data, trains)
    check_shards(config.data, trains)
    if probe.train is not None:
        list_shards(probe.train)


class Probed(NamedTuple):
    """How one modality is read, and by what."""

    encoder: str
    """Name of its encoder in a student."""
    build: Callable[[ModelConfig], nn.Module]
    reader: Callable[[Config], PlacedReader]
    features: Callable[[nn.Module, Batch], Tensor]
    """Encoder and a batch on its device -> [B, width]."""


def _clip_reader(config: Config, hears: bool) -> PlacedReader:
    from tcl.data.feed.clip_reader import ClipReader  # needs an optional package

    model, required = config.model, (config.probe.features,)
    options = {"image_size": model.image.image_size, "required": required, "hears": hears}
    return ClipReader(config.data, model.video, model.audio, None, **options)


MODALITIES = {
    "video": Probed(
        "video_encoder",
        build_video_encoder,
        partial(_clip_reader, hears=False),
        lambda encoder, batch: clip_features(encoder(encoder.prepare(batch.inputs["video"].frames))),
    ),
    "audio": Probed(
        "audio_encoder",
        encoder_of_sounds,
        partial(_clip_reader, hears=True),
        lambda encoder, batch: encoder(batch.inputs["audio"].log_mel, batch.inputs["audio"].heard)[:, 0],
    ),
    "image": Probed(
        "image_encoder",
        lambda model: build_image_encoder(model.image),
        lambda config: PictureReader(config.data, config.model.image.image_size),
        lambda encoder, batch: encoder(image_preparation(encoder)(batch).inputs["image"].view)[:, 0],
    ),
}
"""By probe.features."""


def build(config: Config, accelerator: Accelerator) -> Task:
    """InputError: no scikit-learn, no weights of such an encoder, no usable classes or shards."""
    require_scikit_learn()
    if config.init is None:
        raise InputError("init: none, but there is nothing else to evaluate; give --init a run or a checkpoint")
    classes = read_class_list(Path(config.classes), "classes")
    config.model.image = normalisation_of(config.model.image, config.init)
    probed = MODALITIES[config.probe.features]
    encoder = probed.build(config.model)
    notices = _load(config.init, probed.encoder, encoder, config.probe.features)
    reader = probed.reader(config)
    evaluate = None
    if config.data.val is not None:
        judge = partial(probed.features, encoder)
        evaluate = partial(_evaluate, config=config, reader=reader, classes=classes, features=judge)
    return Task(
        CLASSIFICATION,  # nothing is exported
        encoder,
        NoTeacher(),
        None,
        reader,
        prepare=lambda batch: batch,
        evaluate=evaluate,
        activation_bytes=0,
        notices=notices,
    )


def _load(init: str, name: str, encoder: nn.Module, modality: str) -> list[str]:
    """Fill `encoder`, `name` in a student, with the weights of `init`. What is to be said of it.

    InputError: no weights, none of such an encoder, or those of another architecture.
    """
    inner = {whole.partition(f".{name}.")[2]: tensor for whole, tensor in initial_weights(init).items()}
    own = {rest: tensor for rest, tensor in inner.items() if rest}
    if not own:
        raise InputError(
            f"probe.features: {modality!r}, but {init} holds no weights of its encoder, {name}; give --init a model "
            f"that has it"
        )
    said = description_of(init)
    untrained = said is not None and said.parts.get("untrained") == modality
    told = [f"probe.features: no loss of {init} had a part of {modality!r}, whose encoder is as it began"]
    return fill(encoder, own, init) + (told if untrained else [])


def _evaluate(
    accelerator: Accelerator,
    encoder: nn.Module,
    *,
    config: Config,
    reader: PlacedReader,
    classes: list[str],
    features: Callable[[Batch], Tensor],
) -> Evaluation:
    """The score is the top-1 accuracy in percent."""
    probe = config.probe
    windows = [View(place) for place in (np.linspace(0, 1, probe.windows) if probe.windows > 1 else [0.5])]
    drawn = [View(drawn=number) for number in range(probe.passes)]

    def read(shards: str, views: list[View], name: str) -> Features:
        sets = [probe_set(config.data, shards, reader, classes, probe.folds, view, config.seed) for view in views]
        return read_features(accelerator, encoder, sets, features, config.eval.batch_size, name)

    judged = read(config.data.val, windows, "data.val")
    if probe.folds is None:
        learned = read(probe.train, drawn or windows, "probe.train")
        values = _decide(learned, np.full(len(learned.keys), True), judged, classes, probe.C, "probe.train")
    else:
        learned = read(config.data.val, drawn, "data.val") if drawn else judged
        values = _by_folds(learned, judged, classes, probe)
    best = torch.from_numpy(values).sort(dim=1, descending=True, stable=True).indices[:, :BEST]
    found = Classified(judged.keys, torch.from_numpy(judged.labels), best, None, judged.bad)
    metrics = accuracies(found, len(classes)) | _of_folds(judged, best[:, 0].numpy(), probe.folds)
    line = report_line(found, metrics, len(classes), "samples")
    return Evaluation(
        metrics, metrics["top1"], line, partial(write_report, found=found, classes=classes, what="samples")
    )


def _by_folds(learned: Features, judged: Features, classes: list[str], probe: Probe) -> NDArray[np.float64]:
    """[N, classes]: of each sample of `judged`, by a classifier that learned from the other folds of `learned`.

    InputError: there is but one fold.
    """
    values = np.zeros((len(judged.keys), len(classes)))
    folds = np.unique(judged.folds).tolist()
    if len(folds) < 2:
        raise InputError(
            f"probe.folds: {probe.folds!r} is {folds[0]!r} in all {len(judged.keys):,} samples of data.val; give a "
            f"field of two values or more"
        )
    for fold in folds:
        place = f"probe.folds: outside of fold {fold!r}"
        found = _decide(learned, learned.folds != fold, judged, classes, probe.C, place)
        values[judged.folds == fold] = found[judged.folds == fold]
    return values


def _decide(
    learned: Features, chosen: NDArray[np.bool_], judged: Features, classes: list[str], C: float, place: str
) -> NDArray[np.float64]:
    """[N, classes] of all samples of `judged`, the mean over their views, by a classifier that learned from those of
    `learned` that are `chosen`. InputError, which begins with `place`: a class has fewer than two of them."""
    counts = np.bincount(learned.labels[chosen], minlength=len(classes))
    for name, count in zip(classes, counts.tolist(), strict=True):
        if count < 2:
            raise InputError(f"{place}: class {name!r} has {count} sample(s) to learn from; give two or more of each")
    values = decision_values(*learned.of(chosen), judged.rows, C)
    sums = np.zeros((len(judged.keys), len(classes)))
    np.add.at(sums, judged.owners, values)
    return sums / np.bincount(judged.owners)[:, None]


def _of_folds(judged: Features, best: NDArray[np.int64], name: str | None) -> dict[str, float]:
    """The accuracy in each fold, in percent, where `name` says that there are folds."""
    right, folds = best == judged.labels, [] if name is None else np.unique(judged.folds).tolist()
    return {f"top1_fold_{fold}": 100 * float(right[judged.folds == fold].mean()) for fold in folds}
