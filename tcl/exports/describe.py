"""From the description of an export to its networks, and from networks to a description that needs nothing else."""

from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from tcl.checkpoints.export_format import ExportConfig, fetches, text_sizes, write_answers, write_description
from tcl.checkpoints.run_folder import MODEL
from tcl.config.model import FUSION_SIZES, ModelConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.encoders.text_encoder import check_length
from tcl.models.answer_decoder import answer_decoder_from
from tcl.models.encoders import build_encoders
from tcl.objectives.answering import VQANetworks, VQAStudent
from tcl.objectives.tcl import TCLStudent


def build_student(config: ExportConfig, tokenizer: PreTrainedTokenizerBase) -> TCLStudent | VQAStudent:
    """The networks of `config`, random, in eval mode. InputError: names or sizes that cannot be built."""
    encoders = build_encoders(config.model, len(tokenizer), tokenizer.pad_token_id)
    check_length(config.max_tokens, encoders.text_encoder.bert.config, "source: max_tokens")
    if config.kind == "tcl":
        return TCLStudent(encoders, ObjectiveConfig()).eval()
    decoder = answer_decoder_from(encoders, config.decoder_layers)
    networks = VQANetworks(encoders.image_encoder, encoders.text_encoder, encoders.fusion_encoder, decoder)
    return VQAStudent(networks, objective=None).eval()


def self_contained(model: ModelConfig, student: TCLStudent | VQAStudent) -> ModelConfig:
    """`model`, with which `student` was built, without references to weights or to configurations on the hub."""
    networks = student.averaged
    image, bert = networks.image_encoder, networks.text_encoder.bert.config
    own_fusion = model.fusion.layers is not None
    sizes = text_sizes(bert, whole=own_fusion)
    fusion, fusion_layers = model.fusion, None
    if own_fusion:
        layers = networks.fusion_encoder.config
        fusion = replace(
            fusion,
            width=layers.hidden_size,
            heads=layers.num_attention_heads,
            pretrained=None,
            overrides={name: getattr(layers, name) for name in FUSION_SIZES},
        )
    else:
        fusion_layers = len(networks.fusion_encoder.layers)
        sizes["num_hidden_layers"] += fusion_layers
    overrides = {name: value for name, value in model.image.overrides.items() if not fetches(name)}
    mean, std = tuple(image.mean), tuple(image.std)
    name = model.image.name if ":" not in model.image.name else image.vit.pretrained_cfg["architecture"]  # hf-hub:...
    return replace(
        model,
        image=replace(model.image, name=name, pretrained=False, mean=mean, std=std, overrides=overrides),
        text=replace(model.text, name=bert.model_type, pretrained=False, fusion_layers=fusion_layers, overrides=sizes),
        fusion=fusion,
    )


def describe_run(
    model: ModelConfig,
    student: TCLStudent | VQAStudent,
    folder: Path,
    *,
    max_tokens: int,
    max_words: int,
    answers: list[str] | None,
) -> None:
    """Into the run's `folder`: what its checkpoints can be built from without anything from elsewhere.

    answers: the closed list of VQA; None: there is none.
    """
    decoder_layers = len(student.networks.decoder.layers) if isinstance(student, VQAStudent) else None
    kind = "tcl" if decoder_layers is None else "vqa"
    write_description(
        ExportConfig(kind, self_contained(model, student), max_tokens, max_words, decoder_layers), folder / MODEL
    )
    write_answers(answers, folder)
