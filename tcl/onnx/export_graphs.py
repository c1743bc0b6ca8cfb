"""A retrieval model or a classifier as a folder for onnxruntime: its graphs, and what prepares their inputs.

image.onnx      pixel_values [B, 3, H, W] -> image_tokens [B, N, image width], image_embedding [B, embed_dim]
text.onnx       input_ids, attention_mask [B, L] -> text_tokens [B, L, text width], text_embedding [B, embed_dim]
fusion.onnx     image_tokens, text_tokens, attention_mask of B pairs -> itm_logits [B, 2], no match and match
stored.onnx     on request: as fusion.onnx, of image tokens as tcl.data.tokens stores them: in place of image_tokens
                image_values [B, N, image width] float16, or int8 with image_scales [B, N]
classifier.onnx of a classifier, instead: pixel_values, or left_pixel_values and right_pixel_values, and where it reads
                texts input_ids and attention_mask -> logits [B, classes]
*.int8.onnx     the same with int8 weights, on request
manifest.json   size and checksum of each file
config.json, preprocessor_config.json, tokenizer.json, ...     as in an export (tcl.checkpoints.export_format)

Pixels, tokens and logits are fp32, ids and mask (1 token, 0 padding) int64; embeddings have length 1.
"""

import os
from pathlib import Path

from torch.onnx import ONNXProgram

from tcl.checkpoints.export_files import TOKENIZER_FILES
from tcl.checkpoints.export_format import (
    CONFIG,
    PREPROCESSOR,
    check_self_contained,
    is_export,
    write_config,
)
from tcl.checkpoints.manifest import MANIFEST, verify, write_manifest
from tcl.data.texts.save_tokenizer import save_tokenizer
from tcl.data.tokens.stored_tokens import Storage
from tcl.errors import InputError
from tcl.exports.describe import describe
from tcl.exports.pretrained import Pretrained
from tcl.objectives.tcl import KIND
from tcl.onnx.graphs import trace, trace_classifier, trace_stored
from tcl.optional_package import import_optional

GRAPHS = ("image", "text", "fusion")
STORED = "stored"
CLASSIFIER = "classifier"
ALL = (*GRAPHS, STORED, CLASSIFIER)
"""That a folder may have."""
QUANTISED = ["MatMul", "Gemm", "Gather"]
"""Operators whose weights become int8: linear layers and embeddings, not the convolution that cuts patches."""


def export_onnx(pretrained: Pretrained, folder: Path, *, int8: bool = False, stored: Storage | None = None) -> None:
    """Write `pretrained`, whose student is on the CPU, into `folder`, in place of graphs that are there.

    int8: the quantised graphs as well. stored: the graph that takes image tokens in this storage, too. InputError: a
    model of another kind, one that cannot be described without files from elsewhere, stored tokens for a classifier,
    packages that are not installed, a `folder` that is a run's or an export or cannot be written.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        import_optional(package, "onnx")
    known = pretrained
    if known.kind is not KIND and known.kind.graph is None:
        raise InputError(
            f"source: a {known.kind.name} model; accepted: a pre-trained or a retrieval model, or a classifier"
        )
    if stored is not None and known.kind.graph is not None:
        raise InputError(f"stored: {stored!r} means nothing to a model of kind {known.kind.name}")
    if is_export(folder) or (folder / "checkpoints").exists() or (folder / "student.safetensors").exists():
        raise InputError(f"out: {folder} belongs to a run or an export; name another folder")
    config = describe(known.kind, known.model, known.student, known.max_tokens, known.max_words)
    check_self_contained(config.model, folder)
    programs = trace(known) if known.kind.graph is None else {CLASSIFIER: trace_classifier(known)}
    if stored is not None:
        programs |= {STORED: trace_stored(known, stored)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).unlink(missing_ok=True)  # until all is there, the folder cannot be loaded
        (folder / MANIFEST).unlink(missing_ok=True)
        if known.tokenizer is not None:
            save_tokenizer(known.tokenizer, folder, known.max_tokens)
        write_config(config, folder)
        for name in ALL:
            for former in folder.glob(f"{name}.*onnx*"):
                former.unlink()
        for name, program in programs.items():
            program.save(graph_file(folder, name, int8=False))
            if int8:
                _quantise(program, graph_file(folder, name, int8=True))
        _write_manifest(folder)
    except OSError as error:
        raise InputError(f"out: {folder} cannot be written ({error}); name another folder") from error


def check_onnx(folder: Path) -> None:
    """InputError: a file in `folder` differs from its manifest; folders of the first versions have none."""
    if os.path.lexists(folder / MANIFEST) and (wrong := verify(folder)):
        raise InputError(f"{folder}: {wrong}; export the model again, or remove {MANIFEST} if this was on purpose")


def _write_manifest(folder: Path) -> None:
    patterns = ("*.onnx", "*.onnx.data", CONFIG, PREPROCESSOR, *TOKENIZER_FILES)
    write_manifest(folder, sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}))


def graph_file(folder: Path, name: str, *, int8: bool) -> Path:
    """Where the graph `name` of GRAPHS lies; weights of more than 2 GB are in a .data file beside it."""
    return folder / (f"{name}.int8.onnx" if int8 else f"{name}.onnx")


def _quantise(program: ONNXProgram, path: Path) -> None:
    """Dynamically: weights int8 by column, activations uint8 with a scale that each call finds for itself.

    Weights keep to 7 of the 8 bits: CPUs without VNNI add products of two columns in 16 bits, where 8 would overflow.
    """
    quantization = import_optional("onnxruntime.quantization", "onnx")
    model = program.model_proto
    # The quantiser transposes weights and would find their former shapes noted here; it infers shapes itself.
    model.graph.ClearField("value_info")
    quantization.quant_utils.add_pre_process_metadata(model)  # or it asks for the preparation that torch has done
    quantization.quantize_dynamic(model, path, op_types_to_quantize=QUANTISED, per_channel=True, reduce_range=True)
