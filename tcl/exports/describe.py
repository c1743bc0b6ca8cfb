"""From the description of an export to its networks, and from networks to a description that needs nothing else."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from tcl.checkpoints.export_format import ExportConfig, text_sizes, write_answers, write_description
from tcl.checkpoints.run_folder import MODEL
from tcl.config.checks import require
from tcl.config.model import FUSION_SIZES, FusionConfig, ImageEncoderConfig, ModelConfig, TextEncoderConfig
from tcl.encoders.image_encoder import ImageEncoder
from tcl.encoders.image_weights import fetches
from tcl.encoders.text_encoder import check_length
from tcl.exports.kinds import kind_named, parts_of
from tcl.objectives.kind import Kind


def build_student(config: ExportConfig, tokenizer: PreTrainedTokenizerBase | None, place: str = "source") -> nn.Module:
    """The student of `config`, random, in eval mode. InputError, beginning with `place`: an unknown kind, names or
    sizes that cannot be built."""
    kind = kind_named(config.kind, place)
    accepted = "a number" if kind.reads_text else f"null, since a {kind.name} model reads no texts"
    require(kind.reads_text == config.reads_text, f"{place}: max_tokens", config.max_tokens, accepted)
    student = kind.build(config.model, parts_of(kind, config, place), tokenizer)
    if kind.reads_text:
        check_length(config.max_tokens, student.averaged.text_encoder.bert.config, f"{place}: max_tokens")
    return student.eval()


def describe(
    kind: Kind, model: ModelConfig, student: nn.Module, max_tokens: int | None, max_words: int | None
) -> ExportConfig:
    """`student`, which was built with `model`, so that it can be built from that alone. The longest texts are left out
    of a kind that reads none."""
    lengths = (max_tokens, max_words) if kind.reads_text else (None, None)
    return ExportConfig(kind.name, self_contained(kind, model, student), *lengths, asdict(kind.parts_of(student)))


def self_contained(kind: Kind, model: ModelConfig, student: nn.Module) -> ModelConfig:
    """`model`, with which `student` was built, without references to weights or to configurations on the hub."""
    image = self_contained_image(model.image, student.averaged.image_encoder)
    if not kind.reads_text:
        return replace(model, image=image, text=TextEncoderConfig(), fusion=FusionConfig())
    networks = student.averaged
    bert = networks.text_encoder.bert.config
    fusion, fusion_layers, layers = model.fusion, None, networks.fusion_encoder
    own_fusion = model.fusion.layers is not None
    sizes = text_sizes(bert, whole=own_fusion or layers is None)
    if own_fusion and layers is not None:
        fusion = replace(
            fusion,
            width=layers.config.hidden_size,
            heads=layers.config.num_attention_heads,
            pretrained=None,
            overrides={name: getattr(layers.config, name) for name in FUSION_SIZES},
        )
    elif layers is not None:
        fusion_layers = len(layers.layers)
        sizes["num_hidden_layers"] += fusion_layers
    return replace(
        model,
        image=image,
        text=replace(model.text, name=bert.model_type, pretrained=False, fusion_layers=fusion_layers, overrides=sizes),
        fusion=fusion,
        audio=replace(model.audio, pretrained=False, overrides=_without_files(model.audio.overrides)),
    )


def self_contained_image(config: ImageEncoderConfig, encoder: ImageEncoder) -> ImageEncoderConfig:
    """As `self_contained`, of the image encoder alone."""
    overrides = _without_files(config.overrides)
    from_hub = ":" in config.name  # hf-hub:...
    name = encoder.backbone.pretrained_cfg["architecture"] if from_hub else config.name
    mean, std = tuple(encoder.mean), tuple(encoder.std)
    return replace(config, name=name, pretrained=False, mean=mean, std=std, overrides=overrides)


def _without_files(overrides: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in overrides.items() if not fetches(name)}


def write_model(
    kind: Kind,
    model: ModelConfig,
    student: nn.Module,
    folder: Path,
    *,
    max_tokens: int,
    max_words: int,
    answers: list[str] | None,
) -> None:
    """Into the run's `folder`: what its checkpoints can be built from without anything from elsewhere.

    answers: the closed list from which it chooses; None: there is none.
    """
    write_description(describe(kind, model, student, max_tokens, max_words), folder / MODEL)
    write_answers(answers, folder)
