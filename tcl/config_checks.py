"""Values that cannot work are refused before anything is loaded: one line with the field, the value and what would do.

Each function takes a section of a configuration and raises InputError for the first impossible value in it.
"""

import os
import re
import stat
from dataclasses import fields, is_dataclass
from typing import Any

from tcl.config import (
    AugmentConfig,
    DataConfig,
    EvalConfig,
    ImageEncoderConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimConfig,
    PretrainConfig,
    TrainConfig,
)
from tcl.data.shards import list_shards
from tcl.errors import InputError

WEIGHTS = ("cma_weight", "imc_weight", "lmi_weight", "itm_weight", "mlm_weight")


def check_pretrain(config: PretrainConfig) -> None:
    """A whole pre-training run. Nothing is loaded; shards are only looked up."""
    check_objective(config.objective, config.train)
    check_model(config.model)
    check_train(config.train)
    check_eval(config.eval)
    check_data(config.data)
    check_optim(config.optim)


LARGEST = {
    "seed": 2**53,
    "model.image.image_size": 4096,
    "model.embed_dim": 2**16,
    "model.lmi_regions": 1024,
    "objective.queue_size": 2**26,
    "data.max_tokens": 2**16,
    "data.max_words": 2**16,
    "data.workers": 1024,
    "data.timeout": 10**6,
    "data.augment.randaugment_ops": 1000,
    "train.batch_size": 2**20,
    "train.accumulate_steps": 2**20,
    "train.process_timeout": 10**6,
    "eval.batch_size": 2**20,
    "answers.max_tokens": 2**16,
    "answers.beams": 1024,
    "answers.decoder_layers": 1024,
}
"""Numbers beyond these would ask for memory, processes or time that no machine has; of other fields OTHERS."""
OTHERS = 2**31


def check_sizes(config: Any, prefix: str = "") -> None:
    """Numbers in all sections of any configuration, and where what it writes goes. InputError: one that is too large,
    an output_dir that can be no folder."""
    for field in fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        if is_dataclass(value):
            check_sizes(value, f"{name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            most = LARGEST.get(name, OTHERS)
            require(abs(value) <= most, name, value, f"a number of at most {most:,}")
        elif name == "output_dir":
            check_output_dir(value)


def check_output_dir(path: str) -> None:
    """A folder, or a place where one can be made."""
    require(path.strip() != "", "output_dir", path, "a folder")
    try:
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"output_dir: {path!r} can be no folder ({error.strerror}); name another one") from error
    require(is_folder, "output_dir", path, "a folder, which this is not")


def require(holds: bool, field_name: str, value: Any, accepted: str) -> None:
    """InputError naming the field, its value and what is accepted, unless it `holds`."""
    if not holds:
        raise InputError(f"{field_name}: {value!r} is not possible; accepted: {accepted}")


def check_at_least(least: int, values: dict[str, Any]) -> None:
    """Numbers by field name; None passes: it stands for a default."""
    for name, value in values.items():
        require(value is None or value >= least, name, value, f"a number >= {least}")


def check_objective(objective: ObjectiveConfig, train: TrainConfig) -> None:
    """Weights, queue, temperature, and whether the batch has room for ITM's negatives."""
    check_at_least(0, {f"objective.{name}": getattr(objective, name) for name in WEIGHTS})
    if not any(getattr(objective, name) > 0 for name in WEIGHTS):
        raise InputError(f"objective: all of {', '.join(WEIGHTS)} are 0; at least one loss must have a weight > 0")
    check_distillation(objective.momentum, objective.alpha, objective.alpha_ramp_epochs)
    require(0 < objective.mlm_probability < 1, "objective.mlm_probability", objective.mlm_probability, "0 to 1")
    require(0.001 <= objective.temperature <= 0.5, "objective.temperature", objective.temperature, "0.001 to 0.5")
    check_at_least(1, {"objective.queue_size": objective.queue_size})
    if train.batch_size < 2 and objective.itm_weight > 0:
        raise InputError(
            f"train.batch_size: {train.batch_size} with objective.itm_weight {objective.itm_weight}; ITM draws its "
            f"negatives from the batch and needs at least 2, or objective.itm_weight 0"
        )


def check_distillation(momentum: float, alpha: float, alpha_ramp_epochs: float) -> None:
    """The teacher's moving average and the share of its soft targets."""
    require(0 <= momentum <= 1, "objective.momentum", momentum, "0 to 1")
    require(0 <= alpha <= 1, "objective.alpha", alpha, "0 to 1")
    check_at_least(0, {"objective.alpha_ramp_epochs": alpha_ramp_epochs})


def check_model(model: ModelConfig) -> None:
    """Sizes; whether names can be built is for timm and transformers to say."""
    check_at_least(1, {"model.embed_dim": model.embed_dim, "model.lmi_regions": model.lmi_regions})
    check_image_size(model.image)
    for name in ("mean", "std"):
        values = getattr(model.image, name)
        least = 0 if name == "mean" else 0.001
        fits = values is None or all(least <= value <= 1 for value in values)
        require(fits, f"model.image.{name}", values, f"three numbers from {least} to 1")
    for part in ("image", "text"):
        for name, value in getattr(model, part).overrides.items():
            most = 1024 if re.search(r"depth|layers|heads", name) else 2**24
            numbers = value if isinstance(value, list) else [value]
            fits = all(not isinstance(number, (int, float)) or abs(number) <= most for number in numbers)
            require(fits, f"model.{part}.overrides.{name}", value, f"at most {most:,}")


def check_image_size(image: ImageEncoderConfig) -> None:
    """The size is a multiple of the patch size that the name or the overrides give."""
    check_at_least(1, {"model.image.image_size": image.image_size})
    in_name = re.search(r"patch(\d+)", image.name)
    patch = image.overrides.get("patch_size", int(in_name[1]) if in_name else None)
    sized = patch is None or (isinstance(patch, int) and not isinstance(patch, bool) and patch >= 1)
    require(sized or isinstance(patch, list), "model.image.overrides.patch_size", patch, "a whole number >= 1")
    if isinstance(patch, list):
        return  # one for each side is for timm to say
    if patch is not None and image.image_size % patch:
        near = max(patch, round(image.image_size / patch) * patch)
        raise InputError(
            f"model.image.image_size: {image.image_size} is not a multiple of the patch size {patch} of {image.name}; "
            f"use e.g. {near}"
        )


def check_train(train: TrainConfig) -> None:
    """Lengths and intervals."""
    names = ("batch_size", "accumulate_steps", "epochs", "steps", "max_nonfinite_steps", "process_timeout")
    intervals = ("log_every", "save_every", "keep_checkpoints")
    check_at_least(1, {f"train.{name}": getattr(train, name) for name in names + intervals})


def check_eval(config: EvalConfig) -> None:
    """Sizes of an evaluation by retrieval."""
    check_at_least(1, {f"eval.{name}": getattr(config, name) for name in ("every", "batch_size", "max_images")})
    check_at_least(1, {"eval.pass_tokens": config.pass_tokens})
    check_at_least(0, {"eval.rerank_k": config.rerank_k, "eval.image_cache_gib": config.image_cache_gib})


def check_optim(optim: OptimConfig) -> None:
    """AdamW's numbers and the schedule's."""
    require(optim.lr > 0, "optim.lr", optim.lr, "a number > 0")
    for name in ("warmup_lr", "min_lr"):
        require(0 <= getattr(optim, name) <= optim.lr, f"optim.{name}", getattr(optim, name), f"0 to lr ({optim.lr})")
    check_at_least(0, {"optim.warmup_steps": optim.warmup_steps, "optim.weight_decay": optim.weight_decay})
    require(optim.clip_grad_norm > 0, "optim.clip_grad_norm", optim.clip_grad_norm, "a number > 0")
    require(optim.eps > 0, "optim.eps", optim.eps, "a number > 0")
    require(all(0 <= beta < 1 for beta in optim.betas), "optim.betas", optim.betas, "two numbers, 0 <= beta < 1")


def check_data(data: DataConfig, trains: bool = True) -> None:
    """Text lengths, limits, augmentation and sources; shards are looked up, not opened.

    trains: sources to train on are needed.
    """
    counts = ("max_words", "shuffle_buffer", "max_pixels", "max_sample_bytes")
    check_at_least(1, {f"data.{name}": getattr(data, name) for name in counts})
    check_at_least(0, {"data.workers": data.workers, "data.timeout": data.timeout})
    require(data.max_tokens >= 2, "data.max_tokens", data.max_tokens, "an integer >= 2: [CLS] and a token")
    require(0 <= data.max_bad_fraction <= 1, "data.max_bad_fraction", data.max_bad_fraction, "0 to 1")
    _check_augment(data.augment)
    if not trains:
        if data.val is not None:
            list_shards(data.val)
        return
    if not data.train:
        raise InputError("data.train: no sources; give at least one, e.g. [{shards: data/*.tar}]")
    weights = [source.weight for source in data.train]
    given = [weight for weight in weights if weight is not None]
    if given and (len(given) < len(weights) or min(given) <= 0):
        raise InputError(f"data.train: weights {weights}; give every source a weight > 0, or none of them")
    for pattern in [source.shards for source in data.train] + ([data.val] if data.val else []):
        list_shards(pattern)


def _check_augment(augment: AugmentConfig) -> None:
    for name in ("flip_prob", "color_jitter_prob", "grayscale_prob", "blur_prob"):
        require(0 <= getattr(augment, name) <= 1, f"data.augment.{name}", getattr(augment, name), "0 to 1")
    low, high = augment.crop_scale
    require(0 < low <= high <= 1, "data.augment.crop_scale", augment.crop_scale, "0 < low <= high <= 1")
    *strengths, hue = augment.color_jitter
    accepted = "brightness, contrast, saturation >= 0 and hue 0 to 0.5"
    require(min(strengths) >= 0 and 0 <= hue <= 0.5, "data.augment.color_jitter", augment.color_jitter, accepted)
    check_at_least(0, {"data.augment.randaugment_ops": augment.randaugment_ops})
    magnitude = augment.randaugment_magnitude
    require(0 <= magnitude <= 10, "data.augment.randaugment_magnitude", magnitude, "0 to 10")
