"""Retrieval in onnxruntime, from a folder that tcl.onnx.export_graphs wrote: arrays in, arrays out."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from tcl.checkpoints.export_format import ExportConfig, read_config
from tcl.data.texts.tokenize import load_tokenizer
from tcl.data.tokens.stored_tokens import Storage, StoredTokens
from tcl.errors import InputError
from tcl.onnx.export_graphs import GRAPHS, STORED, check_onnx, graph_file
from tcl.optional_package import import_optional

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


@dataclass(frozen=True)
class OnnxTowers:
    """The graphs, ready to run on the CPU, with what prepares their inputs."""

    image: "InferenceSession"
    text: "InferenceSession"
    fusion: "InferenceSession"
    tokenizer: PreTrainedTokenizerBase
    config: ExportConfig
    stored: "InferenceSession | None" = None
    """The graph that takes tokens as they are stored, where there is one."""

    @property
    def storage(self) -> Storage | None:
        """Of `stored`."""
        if self.stored is None:
            return None
        return "int8" if "image_scales" in {each.name for each in self.stored.get_inputs()} else "fp16"

    def encode_images(self, pixel_values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """float32 [B, 3, H, W], normalised -> tokens [B, N, image width], embeddings [B, embed_dim]."""
        return tuple(self.image.run(None, {"pixel_values": pixel_values}))

    def encode_texts(self, input_ids: np.ndarray, attention_mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """int64 [B, L] each -> tokens [B, L, text width], embeddings [B, embed_dim]."""
        return tuple(self.text.run(None, {"input_ids": input_ids, "attention_mask": attention_mask}))

    def match(self, image_tokens: np.ndarray, text_tokens: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """Tokens of the images and texts of B pairs, mask int64 [B, L] -> ITM logits [B, 2], no match and match."""
        inputs = {"image_tokens": image_tokens, "text_tokens": text_tokens, "attention_mask": attention_mask}
        return self.fusion.run(None, inputs)[0]

    def match_stored(self, tokens: StoredTokens, text_tokens: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        """As `match`, of image tokens as they are stored. InputError: there is no graph for these."""
        storage = "fp16" if tokens.scales is None else "int8"
        if storage != self.storage:
            raise InputError(
                f"tokens: stored as {storage}, but these graphs take {self.storage or 'none that are stored'}; export "
                f"them with `tcl onnx --stored {storage}`"
            )
        inputs = {"image_values": tokens.values.numpy(), "text_tokens": text_tokens, "attention_mask": attention_mask}
        inputs |= {} if tokens.scales is None else {"image_scales": tokens.scales.numpy()}
        return self.stored.run(None, inputs)[0]


def load_onnx(folder: Path, *, int8: bool = False) -> OnnxTowers:
    """The towers in `folder`, on as many threads as torch has; int8: the quantised ones.

    InputError: a graph or another file is missing or damaged, onnxruntime is not installed.
    """
    config = read_config(folder)
    sessions = {name: open_session(graph_file(folder, name, int8=int8)) for name in GRAPHS}
    stored = graph_file(folder, STORED, int8=int8)
    if stored.is_file():
        sessions[STORED] = open_session(stored)
    check_onnx(folder)  # what onnxruntime did not see
    return OnnxTowers(**sessions, tokenizer=load_tokenizer(str(folder)), config=config)


def open_session(path: Path) -> "InferenceSession":
    """The graph in the file `path`, on as many threads as torch has. InputError: missing, damaged, no onnxruntime."""
    onnxruntime = import_optional("onnxruntime", "onnx")
    if not path.is_file():
        option = " --int8" if path.name.endswith(".int8.onnx") else ""
        raise InputError(f"{path}: there is no such file; write it with `tcl onnx{option}`")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors, which are raised; warnings are of its own optimiser
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for every status
        said = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: onnxruntime cannot load it ({said}); export the model again") from error
