"""A classifier as one ONNX graph, and in onnxruntime: of images, or of texts about one image or two."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tcl.checkpoints.export_format import ExportConfig, read_config
from tcl.data.texts.tokenize import load_tokenizer
from tcl.exports.pretrained import Pretrained
from tcl.onnx.export_graphs import CLASSIFIER, check_onnx, graph_file
from tcl.onnx.graphs import SIZES, random_texts
from tcl.onnx.towers import open_session

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


@dataclass(frozen=True)
class OnnxClassifier:
    """The graph, ready to run on the CPU, with what prepares its inputs."""

    graph: "InferenceSession"
    tokenizer: PreTrainedTokenizerBase | None
    """None: it reads no texts."""
    config: ExportConfig

    def logits(self, **inputs: np.ndarray) -> np.ndarray:
        """float32 [B, classes]. pixel_values, or left_pixel_values and right_pixel_values: float32 [B, 3, H, W],
        normalised; of texts input_ids and attention_mask: int64 [B, L]."""
        return self.graph.run(None, inputs)[0]


def load_classifier(folder: Path, *, int8: bool = False) -> OnnxClassifier:
    """The classifier in `folder`; int8: the quantised one. InputError: as `tcl.onnx.towers.load_onnx`."""
    config = read_config(folder)
    graph = open_session(graph_file(folder, CLASSIFIER, int8=int8))
    check_onnx(folder)
    return OnnxClassifier(graph, load_tokenizer(str(folder)) if config.reads_text else None, config)


@torch.no_grad()
def class_differences(pretrained: Pretrained, classifier: OnnxClassifier) -> dict[str, float]:
    """The largest of the logits, on random pixels and texts of SIZES, padding included; NaN where either side is.

    `pretrained` is on the CPU, and its kind has a graph.
    """
    graph, largest = pretrained.kind.graph(pretrained.student).eval(), torch.tensor(0.0)
    for rows, longest in SIZES:
        inputs = _random_inputs(pretrained, rows, longest)
        found = classifier.logits(**{name: tensor.numpy() for name, tensor in inputs.items()})
        largest = torch.maximum(largest, (torch.from_numpy(found) - graph(**inputs)).abs().max())
    return {"logits": float(largest)}


def _random_inputs(pretrained: Pretrained, rows: int, longest: int) -> dict[str, Tensor]:
    generator, side = torch.Generator().manual_seed(rows), pretrained.model.image.image_size
    names = inspect.signature(pretrained.kind.graph(pretrained.student).forward).parameters
    inputs = {
        name: torch.randn(rows, 3, side, side, generator=generator) for name in names if name.endswith("pixel_values")
    }
    if "input_ids" in names:
        inputs |= dict(zip(("input_ids", "attention_mask"), random_texts(pretrained, rows, longest), strict=True))
    return inputs
