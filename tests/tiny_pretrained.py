"""Loaded models of a few thousand parameters, whose weights are large enough that scores differ well."""

import torch
from data_files import TOKENIZER
from tiny import MODEL
from torch import nn

from tcl import TCL, TCLForVQA
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.exports.kinds import kind_named
from tcl.exports.pretrained import Pretrained
from tcl.models.answer_decoder import answer_decoder_from
from tcl.models.encoders import build_encoders
from tcl.objectives.question_answering import VQANetworks, VQAStudent
from tcl.objectives.tcl import TCLStudent

PLAIN = {"device": "cpu", "precision": "fp32"}


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


@torch.no_grad()
def _spread(module: nn.Module) -> None:
    for parameter in module.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=0.3)
