"""Published checkpoints into our format and back; every tensor of the source is accounted for in a report."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tcl.checkpoints.export_format import ExportConfig
from tcl.checkpoints.initial import fill
from tcl.checkpoints.published import PublishedWeights, map_published, to_published
from tcl.checkpoints.run_folder import RunFacts
from tcl.checkpoints.weights_file import find_weights, read_weights
from tcl.config.model import check_image_size
from tcl.data.texts.tokenize import load_tokenizer
from tcl.encoders.image_positions import interpolate_positions
from tcl.errors import InputError
from tcl.exports.conversion_report import ConversionReport
from tcl.exports.describe import build_student
from tcl.exports.infer_sizes import Heads, count_decoder_layers, infer_model
from tcl.exports.model_card import model_card
from tcl.exports.pretrained import Pretrained, load_pretrained, save_pretrained
from tcl.objectives.tcl import KIND as TCL
from tcl.objectives.text_assignment import KIND as TEXT_ASSIGNMENT
from tcl.tasks.entailment import KIND as ENTAILMENT
from tcl.tasks.nlvr import KIND as NLVR
from tcl.tasks.vqa import KIND as VQA

ACCEPTED = "a published TCL or ALBEF .pth, pre-trained or fine-tuned"
_STAGES = {
    "pre-training": (TCL, 25, 30),
    "retrieval": (TCL, 30, 30),
    "vqa": (VQA, 25, 50),
    "entailment": (ENTAILMENT, 64, 30),
    "text assignment": (TEXT_ASSIGNMENT, 25, 30),
    "nlvr": (NLVR, 64, 30),
}
"""What each training leaves, and the longest text in tokens and in words, as published; there, 30 words are cut to no
number of tokens in entailment and NLVR2."""


def import_published(
    source: Path,
    out: Path,
    *,
    tokenizer: str = "bert-base-uncased",
    image_size: int | None = None,
    heads: Heads | None = None,
    with_teacher: bool = False,
) -> ConversionReport:
    """Write the published checkpoint `source` as an export into the folder `out`, with conversion.json.

    source: .pth, .safetensors, or a folder that transformers would name so, of one file or several with an index.
    tokenizer: hub id or folder. image_size, in pixels: positions are interpolated to it; None: as it was trained.
    heads: attention heads, where the widths are unusual. with_teacher: momentum weights and queues are kept.
    InputError: not such a checkpoint, tensors that cannot be used, sizes that cannot be, no tokenizer.
    """
    file = (find_weights(source) if source.is_dir() else None) or source
    state = read_weights(file, "source", ACCEPTED)
    weights = map_published(state)
    report = _report(str(source), weights, with_teacher)
    report.refuse_errors(out)
    stage = _stage(weights)
    model = infer_model(state, heads or Heads(), tokenizer)
    if image_size is not None:
        model.image = replace(model.image, image_size=image_size)
        check_image_size(model.image)
    kind, max_tokens, max_words = _STAGES[stage]
    parts = {"decoder_layers": count_decoder_layers(state)} if kind is VQA else {}
    max_tokens = min(max_tokens, model.text.overrides["max_position_embeddings"])
    config = ExportConfig(kind.name, model, max_tokens, max_words, parts=parts)
    own_tokenizer = tokenizer_of(tokenizer)
    student = build_student(config, own_tokenizer)
    teacher = weights.teacher if with_teacher else {}
    for part, where in ((weights.student, weights.source), (teacher, weights.teacher_source)):
        report.notices += interpolate_positions(student, part, "image_size")
        report.errors |= misfits(student, part, where)
    report.refuse_errors(out)
    report.notices += _notices(student, own_tokenizer, stage)
    lacks = TCL.may_lack if stage == "retrieval" else ()
    fill(student, weights.student, str(source), may_lack=lacks, field="source")
    card = model_card(config, RunFacts(f"a published checkpoint ({stage}), {source.name}"), kind.card)
    lengths = config.max_tokens, config.max_words
    converted = Pretrained(
        student, own_tokenizer, kind, model, *lengths, card=card, lacks=lacks, teacher=teacher or None
    )
    save_pretrained(converted, out)
    report.write(out)
    return report


def export_published(source: str, out: Path, *, with_teacher: bool = False) -> int:
    """Write the model at `source` (as `load_pretrained`) under the published names into the file `out`, for
    torch.load; returns the number of tensors.

    InputError: no such model, networks that the published code does not have, a file that cannot be written.
    """
    pretrained = load_pretrained(source, with_teacher=with_teacher)
    if pretrained.kind not in [kind for kind, *_ in _STAGES.values()]:
        raise InputError(f"to: a {pretrained.kind.name} model; the published code knows {', '.join(_STAGES)}")
    if pretrained.student.averaged.text_encoder.bert.config.model_type != "bert":
        raise InputError(f"to: the text encoder is a {pretrained.model.text.name}; the published code knows BERT only")
    if pretrained.model.fusion.layers is not None:
        raise InputError(
            f"to: the fusion encoder has {pretrained.model.fusion.layers} layers of its own; the published code knows "
            f"the upper layers of a BERT only"
        )
    if pretrained.model.fusion.image_tokens is not None:
        raise InputError(
            f"to: the fusion encoder looks at {pretrained.model.fusion.image_tokens} tokens of an image; the published "
            f"code knows no compression"
        )
    student = {k: t for k, t in pretrained.student.state_dict().items() if not k.startswith(pretrained.lacks)}
    state = to_published(student, pretrained.teacher or {})
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"model": state}, out)
    except (OSError, RuntimeError) as error:
        raise InputError(f"out: {out} cannot be written ({str(error).splitlines()[0]}); name a file") from error
    return len(state)


def _report(source: str, weights: PublishedWeights, with_teacher: bool) -> ConversionReport:
    report = ConversionReport(source, ignored=dict(weights.ignored), errors=dict(weights.errors))
    report.mapped = {theirs: f"student.{ours}" for ours, theirs in weights.source.items()}
    for ours, theirs in weights.teacher_source.items():
        if with_teacher:
            also = f"{report.mapped[theirs]}, " if theirs in report.mapped else ""  # a pointer serves all queues
            report.mapped[theirs] = f"{also}teacher.{ours}"
        else:
            report.ignored[theirs] = "of the momentum teacher, which was not asked for"
    if with_teacher and not weights.teacher:
        raise InputError(f"with_teacher: {source} holds no momentum weights and no queues; convert it without")
    return report


def _stage(weights: PublishedWeights) -> str:
    """Which training left these weights; fine-tuned retrieval models have no MLM head."""
    names = weights.student
    if any(name.startswith("networks.cls_head.") for name in names):
        return "nlvr" if any(".fusion_encoder.layers.0.second." in name for name in names) else "entailment"
    if any(name.startswith("networks.") for name in names):
        return "vqa"
    if any(name.startswith("ta_head.") for name in names):
        return "text assignment"
    return "pre-training" if any(name.startswith(TCL.may_lack) for name in weights.student) else "retrieval"


def _notices(student: nn.Module, tokenizer: PreTrainedTokenizerBase, stage: str) -> list[str]:
    tokens, embedded = len(tokenizer), student.averaged.text_encoder.word_embeddings.num_embeddings
    told = []
    if tokens != embedded:
        told.append(f"tokenizer: {tokenizer.name_or_path} has {tokens} tokens, the weights embed {embedded}")
    if stage == "retrieval":
        told.append("source: it has no MLM head, and the export has none either")
    return told


def misfits(student: nn.Module, weights: dict[str, Tensor], source: dict[str, str]) -> dict[str, str]:
    """What of `weights` (our names) does not fit into `student`: source name -> why. Queues fit any model.

    source: our names -> those of the source.
    """
    own = student.state_dict()
    wrong = {}
    for name, tensor in weights.items():
        if name.split(".")[0].endswith("_queue"):
            continue
        if name not in own:
            wrong[source[name]] = f"{name} has no place in the model"
        elif own[name].shape != tensor.shape:
            wrong[source[name]] = f"{name} is {tuple(tensor.shape)}, in the model {tuple(own[name].shape)}"
    return wrong


def tokenizer_of(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of option `tokenizer`, hub id or folder. InputError: it cannot be loaded."""
    try:
        return load_tokenizer(name)
    except InputError as error:
        raise InputError(f"tokenizer: {str(error).removeprefix('model.text.tokenizer: ')}") from error
