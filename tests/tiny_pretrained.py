"""Loaded models of a few thousand parameters, whose weights are large enough that scores differ well."""

from dataclasses import replace

import torch
from data_files import TOKENIZER
from tiny import MODEL
from tiny_clips import clips_model
from tiny_video_text import video_text_model
from torch import nn

from tcl import (
    TCL,
    TCLForClassification,
    TCLForClips,
    TCLForCompressedRetrieval,
    TCLForEntailment,
    TCLForNLVR,
    TCLForVideo,
    TCLForVQA,
    TwoTowers,
)
from tcl.config.clip_objective import CLIPObjectiveConfig
from tcl.config.clips_objective import ClipsObjectiveConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.exports.kinds import kind_named
from tcl.exports.pretrained import Pretrained
from tcl.models.answer_decoder import answer_decoder_from
from tcl.models.encoders import build_encoders, build_towers
from tcl.objectives import clips, video_text
from tcl.objectives.clip import CLIPStudent
from tcl.objectives.question_answering import VQANetworks, VQAStudent
from tcl.objectives.tcl import TCLStudent
from tcl.tasks import compressed_retrieval, entailment, nlvr
from tcl.tasks.classification import Parts, build_student

PLAIN = {"device": "cpu", "precision": "fp32"}


def tiny_video_text(hears: bool = False, **options) -> TCLForVideo:
    """As `tiny_tcl`, of clips of three frames. hears: it has an encoder of sound."""
    torch.manual_seed(0)
    model = video_text_model()
    student = video_text.KIND.build(model, video_text.Parts(hears), TOKENIZER)
    _spread(student)
    return TCLForVideo(Pretrained(student, TOKENIZER, video_text.KIND, model, 12, 8), **{**PLAIN, **options})


def tiny_tcl(**options) -> TCL:
    """On the CPU in fp32 unless said otherwise; 12 tokens, 8 words."""
    torch.manual_seed(0)
    student = TCLStudent(build_encoders(MODEL, len(TOKENIZER), TOKENIZER.pad_token_id), ObjectiveConfig())
    _spread(student)
    return TCL(Pretrained(student, TOKENIZER, kind_named("tcl", "here"), MODEL, 12, 8), **{**PLAIN, **options})


def tiny_vqa(answers: list[str] | None = None, **options) -> TCLForVQA:
    """As `tiny_tcl`. answers: its closed list."""
    torch.manual_seed(0)
    encoders = build_encoders(MODEL, len(TOKENIZER), TOKENIZER.pad_token_id)
    decoder = answer_decoder_from(encoders, layers=None)
    student = VQAStudent(VQANetworks(encoders.image_encoder, encoders.text_encoder, encoders.fusion_encoder, decoder))
    _spread(student)
    return TCLForVQA(
        Pretrained(student, TOKENIZER, kind_named("vqa", "here"), MODEL, 12, 8, answers), **{**PLAIN, **options}
    )


def tiny_towers(**options) -> TwoTowers:
    """As `tiny_tcl`."""
    torch.manual_seed(0)
    student = CLIPStudent(build_towers(MODEL, len(TOKENIZER), TOKENIZER.pad_token_id), CLIPObjectiveConfig())
    _spread(student)
    return TwoTowers(Pretrained(student, TOKENIZER, kind_named("clip", "here"), MODEL, 12, 8), **{**PLAIN, **options})


def tiny_classifier(classes: list[str], **options) -> TCLForClassification:
    """As `tiny_tcl`."""
    torch.manual_seed(0)
    student = build_student(MODEL, Parts(classes))
    _spread(student)
    known = Pretrained(student, None, kind_named("classification", "here"), MODEL, None, None)
    return TCLForClassification(known, **{**PLAIN, **options})


def tiny_compressed(**options) -> TCLForCompressedRetrieval:
    """As `tiny_tcl`; three levels of four parts of four numbers, six codewords each."""
    torch.manual_seed(0)
    sizes = compressed_retrieval.Parts(dim=16, levels=2, ghosts=1, parts=4, codewords=6)
    student = compressed_retrieval.build_student(MODEL, sizes, TOKENIZER)
    _spread(student)
    known = Pretrained(student, TOKENIZER, kind_named("compressed_retrieval", "here"), MODEL, 12, 8)
    return TCLForCompressedRetrieval(known, **{**PLAIN, **options})


def tiny_entailment(**options) -> TCLForEntailment:
    """As `tiny_tcl`."""
    torch.manual_seed(0)
    student = entailment.build_student(MODEL, TOKENIZER)
    _spread(student)
    return TCLForEntailment(Pretrained(student, TOKENIZER, entailment.KIND, MODEL, 12, 8), **{**PLAIN, **options})


def tiny_nlvr(**options) -> TCLForNLVR:
    """As `tiny_tcl`."""
    torch.manual_seed(0)
    student = nlvr.build_student(MODEL, TOKENIZER)
    _spread(student)
    return TCLForNLVR(Pretrained(student, TOKENIZER, nlvr.KIND, MODEL, 12, 8), **{**PLAIN, **options})


def tiny_clips(
    temporal: str = "shift",
    ends: str = "zero",
    graph: str = "fac",
    objective: ClipsObjectiveConfig | None = None,
    **options,
) -> TCLForClips:
    """As `tiny_tcl`; clips of four frames."""
    torch.manual_seed(0)
    model = clips_model(graph, temporal)
    model = replace(model, video=replace(model.video, frames=4, ends=ends))
    student = clips.build_student(model, objective or ClipsObjectiveConfig(), TOKENIZER)
    _spread(student)
    return TCLForClips(Pretrained(student, TOKENIZER, clips.KIND, model, 12, 8), **{**PLAIN, **options})


@torch.no_grad()
def _spread(module: nn.Module) -> None:
    for parameter in module.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=0.3)
