"""From the description of an export to its networks, and from networks to a description that needs nothing else."""

from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from tcl.checkpoints.export_format import BERT_SIZES, ExportConfig
from tcl.config import ModelConfig, ObjectiveConfig
from tcl.models.answer_decoder import answer_decoder_from
from tcl.models.encoders import build_encoders
from tcl.models.tcl import TCLStudent
from tcl.models.vqa import VQANetworks, VQAStudent


def build_student(config: ExportConfig, tokenizer: PreTrainedTokenizerBase) -> TCLStudent | VQAStudent:
    """The networks of `config`, random, in eval mode. InputError: names or sizes that cannot be built."""
    encoders = build_encoders(config.model, len(tokenizer), tokenizer.pad_token_id)
    if config.kind == "tcl":
        return TCLStudent(encoders, ObjectiveConfig()).eval()
    decoder = answer_decoder_from(encoders, config.decoder_layers)
    networks = VQANetworks(encoders.image_encoder, encoders.text_encoder, encoders.fusion_encoder, decoder)
    return VQAStudent(networks, objective=None).eval()


def self_contained(model: ModelConfig, student: TCLStudent | VQAStudent) -> ModelConfig:
    """`model`, with which `student` was built, without references to weights or to configurations on the hub."""
    networks = student.averaged
    image, bert = networks.image_encoder, networks.text_encoder.bert.config
    fusion_layers = len(networks.fusion_encoder.layers)
    sizes = {name: getattr(bert, name) for name in BERT_SIZES if hasattr(bert, name)}
    sizes["num_hidden_layers"] += fusion_layers
    return replace(
        model,
        image=replace(model.image, pretrained=False, mean=tuple(image.mean), std=tuple(image.std)),
        text=replace(model.text, name=bert.model_type, pretrained=False, fusion_layers=fusion_layers, overrides=sizes),
    )
