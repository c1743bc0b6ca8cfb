"""The image tower whose tokens are stored: that of a trained model, or of a run that has yet to start."""

from typing import Any

import torch

from tcl.config.data import AugmentConfig, check_augment
from tcl.config.model import ImageEncoderConfig, ModelConfig, check_model
from tcl.encoders.build_image_encoder import build_image_encoder
from tcl.encoders.image_encoder import ImageEncoder
from tcl.errors import InputError
from tcl.exports.pretrained import load_pretrained
from tcl.plain_values import read_yaml
from tcl.typed_section import decode, typed


def is_configuration(source: str) -> bool:
    """Is `source` a YAML file of a run's options, and no model?"""
    return source.endswith((".yaml", ".yml"))


def load_tower(source: str, revision: str | None = None) -> tuple[ImageEncoder, ImageEncoderConfig]:
    """In eval mode, on the CPU, with what it is built from. source: as `load_pretrained`, or a run's options.

    InputError: no model there, options that make none, or by which the tower would be trained.
    """
    if not is_configuration(source):
        pretrained = load_pretrained(source, revision=revision)
        return pretrained.student.averaged.image_encoder, pretrained.model.image
    said = read_yaml(source, "tokens")
    if isinstance(said, dict) and said.get("init") is not None:
        raise InputError(f"tokens: {source} starts from {said['init']!r}; give that model, and --config {source}")
    config = decode(ImageEncoderConfig, _section(said, "model", "image"), source, {}, "model.image.")
    check_model(ModelConfig(image=config))
    if not config.frozen:
        raise InputError(f"tokens: {source}: model.image.frozen is false; tokens are those of a tower that is frozen")
    seed = said.get("seed", 0) if isinstance(said, dict) else 0
    torch.manual_seed(typed(seed, int, f"{source}: seed"))  # before anything else is drawn, as in the run
    return build_image_encoder(config).eval(), config


def augment_of(path: str, option: str) -> AugmentConfig:
    """The section data.augment of a YAML file of a run's options, which `option` names. InputError: impossible."""
    augment = decode(AugmentConfig, _section(read_yaml(path, option), "data", "augment"), path, {}, "data.augment.")
    check_augment(augment)
    return augment


def _section(said: Any, *names: str) -> Any:
    """{} where it is not there."""
    for name in names:
        said = said.get(name, {}) if isinstance(said, dict) else {}
    return said
