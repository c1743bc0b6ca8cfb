"""A folder with a stock BERT, as transformers saves it, into our format: its text encoder, fusion encoder and MLM head.

Cross-attention, projections and heads, of which BERT has none, start random, and so does the image encoder unless
the model configuration names weights of timm.
"""

import re
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig

from tcl.checkpoints.export_format import BERT_SIZES, ExportConfig
from tcl.checkpoints.published import PublishedWeights, map_names
from tcl.checkpoints.run_folder import RunFacts
from tcl.checkpoints.weights_file import find_weights, read_weights
from tcl.config.model import ModelConfig
from tcl.errors import InputError
from tcl.exports.conversion_report import ConversionReport
from tcl.exports.convert_published import misfits, tokenizer_of
from tcl.exports.describe import build_student, self_contained
from tcl.exports.model_card import model_card
from tcl.exports.pretrained import Pretrained, save_pretrained
from tcl.objectives.tcl import KIND

_IGNORED = {
    "bert.pooler.": "BERT's pooler, which no loss reads",
    "cls.seq_relationship.": "BERT's next-sentence head",
}
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
"""Of the first BERTs."""


def import_bert(
    source: Path, out: Path, model: ModelConfig, *, tokenizer: str | None = None, seed: int = 0
) -> ConversionReport:
    """Write the BERT in the folder `source` as an export into the folder `out`, with conversion.json.

    model: image encoder, embed_dim and text.fusion_layers; the rest of its text section is replaced by the BERT's.
    tokenizer: hub id or folder; None: `source`. seed: of what starts random. InputError: no BERT, tensors without use.
    """
    sizes = _bert_sizes(source)
    text_layers = sizes["num_hidden_layers"] - (model.text.fusion_layers or sizes["num_hidden_layers"] // 2)
    own_tokenizer = tokenizer_of(tokenizer or str(source))
    text = replace(model.text, name="bert", pretrained=False, tokenizer=tokenizer or str(source), overrides=sizes)
    config = ExportConfig(KIND.name, replace(model, text=text))
    torch.manual_seed(seed)
    student = build_student(config, own_tokenizer)
    weights, report = _map(source, text_layers)
    report.errors |= misfits(student, weights.student, weights.source)
    report.refuse_errors(out)
    own = student.state_dict()
    random = {_part(name) for name in own.keys() - weights.student.keys()} - {"temperature"}
    if incomplete := sorted(random & {"encoders.text_encoder", "encoders.fusion_encoder"}):
        raise InputError(f"source: {source} has not all of the weights of {incomplete[0]}; its config.json names more")
    if model.image.pretrained:
        random.remove("encoders.image_encoder")
        report.notices.append(f"encoders.image_encoder: timm's weights of {model.image.name}")
    report.notices.append(f"random, to be trained: {', '.join(sorted(random))}")
    student.load_state_dict(own | weights.student)
    facts = RunFacts(f"a BERT, {source.name}; {report.notices[-1]}")
    config.model = self_contained(KIND, config.model, student)
    card = model_card(config, facts, KIND.card)
    save_pretrained(
        Pretrained(student, own_tokenizer, KIND, config.model, config.max_tokens, config.max_words, card=card), out
    )
    report.write(out)
    return report


def _map(source: Path, text_layers: int) -> tuple[PublishedWeights, ConversionReport]:
    """The published checkpoints hold a BERT as `text_encoder`, under the same names."""
    report, state = ConversionReport(str(source)), {}
    for name, tensor in _read(source).items():
        reason = next((why for prefix, why in _IGNORED.items() if name.startswith(prefix)), None)
        if reason is None:
            state[f"text_encoder.{name}"] = tensor
        else:
            report.ignored[name] = reason
    weights = map_names(state, text_layers)
    weights.source = {ours: theirs.removeprefix("text_encoder.") for ours, theirs in weights.source.items()}
    report.mapped = {theirs: f"student.{ours}" for ours, theirs in weights.source.items()}
    report.ignored |= {name.removeprefix("text_encoder."): why for name, why in weights.ignored.items()}
    report.errors = {name.removeprefix("text_encoder."): why for name, why in weights.errors.items()}
    return weights, report


def _bert_sizes(source: Path) -> dict:
    try:
        config = AutoConfig.from_pretrained(source, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises OSError, ValueError, ... with messages of many lines
        raise InputError(
            f"source: {source} has no config.json of a BERT ({str(error).splitlines()[0]}); give a folder that "
            f"transformers saved"
        ) from error
    if config.model_type != "bert":
        raise InputError(f"source: {source} is a {config.model_type}; accepted: bert")
    return {name: getattr(config, name) for name in BERT_SIZES if hasattr(config, name)}


def _read(source: Path) -> dict[str, Tensor]:
    """By the names of BertForMaskedLM, whatever class was saved."""
    accepted = "a folder with model.safetensors or pytorch_model.bin, or the index of several"
    file = find_weights(source)
    if file is None:
        raise InputError(f"source: {source} holds no weights; accepted: {accepted}")
    state = {}
    for name, tensor in read_weights(file, "source", accepted).items():
        bare = name.startswith(("embeddings.", "encoder.", "pooler."))
        for old, new in _OLD_NAMES.items():
            name = name.replace(old, new)
        state[f"bert.{name}" if bare else name] = tensor
    return state


def _part(name: str) -> str:
    """'encoders.fusion_encoder.layers.0.cross_attention.query.weight' -> what a person calls it."""
    if ".cross_attention." in name:
        return "cross-attention"
    return ".".join(name.split(".")[:2]) if name.startswith("encoders.") else re.sub(r"\..*", "", name)
