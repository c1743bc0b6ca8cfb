"""Write a retrieval model or a classifier as ONNX graphs, checked against torch in onnxruntime.

    tcl onnx runs/mine onnx/mine
    tcl onnx runs/mine onnx/mine --int8 --shards 'data/val/*.tar'
    tcl onnx runs/mine onnx/mine --stored int8

OUT gets image.onnx, text.onnx and fusion.onnx (with --stored also stored.onnx, which takes stored image tokens), or
classifier.onnx (with --int8 all of them as *.int8.onnx, too), the tokenizer, config.json, preprocessor_config.json and
onnx_report.json: the largest differences from torch, sizes and, where shards are given, recalls. docs/checkpoints.md
says what graphs take and give.
"""

import argparse
from pathlib import Path

from tcl.commands.model_options import add_model_source
from tcl.commands.parser import command_parser
from tcl.config.data import DataConfig
from tcl.errors import InputError
from tcl.shown import say


def parser() -> argparse.ArgumentParser:
    """What `tcl onnx --help` lists."""
    options = command_parser("tcl onnx", __doc__)
    add_model_source(options)
    options.add_argument("out", type=Path, metavar="OUT", help="a folder")
    options.add_argument("--int8", action="store_true", help="also graphs with int8 weights")
    options.add_argument(
        "--stored", choices=("fp16", "int8"), help="also a fusion graph that takes image tokens stored like this"
    )
    options.add_argument("--shards", metavar="PATTERN", help="image-text pairs on which recalls are compared")
    options.add_argument(
        "--rerank_k", type=int, default=16, metavar="K", help="candidates that ITM orders (default 16)"
    )
    return options


def main(arguments: list[str]) -> None:
    """InputError: what the export raises, shards without use, graphs that differ from torch by more than rounding."""
    given = parser().parse_args(arguments)
    from tcl.config.checks import check_at_least
    from tcl.data.sets.retrieval_set import load_retrieval_set
    from tcl.evaluation.evaluate_retrieval import cut_rerank_k
    from tcl.exports.pretrained import load_pretrained
    from tcl.onnx.agreement_report import report_onnx
    from tcl.onnx.export_graphs import export_onnx

    check_at_least(1, {"rerank_k": given.rerank_k})
    pretrained = load_pretrained(given.model, revision=given.revision)
    data = None
    if given.shards is not None and pretrained.kind.graph is not None:
        raise InputError(f"shards: {given.shards!r} means nothing to a model of kind {pretrained.kind.name}")
    if given.shards is not None:
        data = load_retrieval_set(given.shards, max_words=pretrained.max_words, max_pixels=DataConfig.max_pixels)
        for note in cut_rerank_k(given.rerank_k, data, "rerank_k"):
            say(note)
    export_onnx(pretrained, given.out, int8=given.int8, stored=given.stored)
    report_onnx(pretrained, given.out, int8=given.int8, data=data, rerank_k=given.rerank_k)
