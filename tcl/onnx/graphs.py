"""The computations of retrieval, or the one of a classifier, and each as an ONNX graph of any batch size and text
length."""

import inspect
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tcl.data.tokens.stored_tokens import Storage, StoredTokens, restore_tokens, store_tokens
from tcl.exports.pretrained import Pretrained
from tcl.models.activation_memory import seen_tokens
from tcl.models.encoders import Encoders
from tcl.objectives.tcl import TCLStudent

EXAMPLE_TOKENS = 8
"""Length of the texts that are traced, at most."""
SIZES = ((1, 2), (2, 25), (5, 11))
"""Rows and text tokens on which a graph is compared with torch; none is what it was traced with."""


class ImageTower(nn.Module):
    """From pixels to tokens and the embedding."""

    def __init__(self, encoders: Encoders):
        super().__init__()
        self.encoders = encoders

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, H, W] -> tokens that the fusion encoder looks at [B, N, image width], embeddings [B, embed_dim]."""
        tokens = self.encoders.image_encoder(pixel_values)
        return self.encoders.fusion_encoder.compress(tokens), self.encoders.project_image(tokens[:, 0])


class TextTower(nn.Module):
    """From token ids to tokens and the embedding."""

    def __init__(self, encoders: Encoders):
        super().__init__()
        self.encoders = encoders

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and mask (1 token, 0 padding) [B, L] -> tokens [B, L, text width], embeddings [B, embed_dim]."""
        tokens = self.encoders.text_encoder(input_ids, attention_mask)
        return tokens, self.encoders.project_text(tokens[:, 0])


class PairScorer(nn.Module):
    """The fusion encoder and the ITM head."""

    def __init__(self, student: TCLStudent):
        super().__init__()
        self.fusion_encoder = student.encoders.fusion_encoder
        self.itm_head = student.itm_head

    def forward(self, image_tokens: Tensor, text_tokens: Tensor, attention_mask: Tensor) -> Tensor:
        """[B, N, image width], [B, L, text width] and [B, L] of B pairs -> ITM logits [B, 2], no match and match."""
        read = self.fusion_encoder.read_texts(text_tokens, attention_mask)
        keys_values = self.fusion_encoder.keys_values(image_tokens)
        return self.itm_head(self.fusion_encoder.match(read, attention_mask, keys_values))


class StoredPairScorer(PairScorer):
    """As the pair scorer, of image tokens as they are stored."""

    def forward(
        self, image_values: Tensor, text_tokens: Tensor, attention_mask: Tensor, image_scales: Tensor | None = None
    ) -> Tensor:
        """Values [B, N, image width] float16 without scales, or int8 with scales [B, N]; the rest as above."""
        tokens = restore_tokens(StoredTokens(image_values, image_scales))
        return super().forward(tokens, text_tokens, attention_mask)


@dataclass(frozen=True)
class Graphs:
    """The computations as modules, in eval mode."""

    image: ImageTower
    text: TextTower
    fusion: PairScorer


def graphs_of(student: TCLStudent) -> Graphs:
    """Those of `student`, on its own weights."""
    encoders = student.encoders
    return Graphs(ImageTower(encoders).eval(), TextTower(encoders).eval(), PairScorer(student).eval())


@torch.no_grad()
def trace(pretrained: Pretrained) -> dict[str, torch.onnx.ONNXProgram]:
    """Each of `Graphs` by its name as ONNX. Inputs are called as the arguments of its forward.

    The student is on the CPU.
    """
    graphs, side = graphs_of(pretrained.student), pretrained.model.image.image_size
    # Two of each: the exporter takes a size of 1 for one that never changes.
    pixel_values = torch.zeros(2, 3, side, side)
    input_ids, attention_mask = _example_texts(pretrained)
    image_tokens, _ = graphs.image(pixel_values)
    text_tokens, _ = graphs.text(input_ids, attention_mask)
    texts = {"input_ids": input_ids, "attention_mask": attention_mask}
    pairs = {"image_tokens": image_tokens, "text_tokens": text_tokens, "attention_mask": attention_mask}
    return {
        "image": _export(graphs.image, {"pixel_values": pixel_values}, ["image_tokens", "image_embedding"]),
        "text": _export(graphs.text, texts, ["text_tokens", "text_embedding"]),
        "fusion": _export(graphs.fusion, pairs, ["itm_logits"]),
    }


@torch.no_grad()
def trace_stored(pretrained: Pretrained, storage: Storage) -> torch.onnx.ONNXProgram:
    """`StoredPairScorer` as ONNX, which has no input image_scales where storage is fp16. As `trace`."""
    encoders = pretrained.student.encoders
    tokens = seen_tokens(encoders.fusion_encoder, encoders.image_encoder)
    stored = store_tokens(torch.ones(2, tokens, encoders.image_encoder.width), storage)
    _, attention_mask = _example_texts(pretrained)
    inputs = {
        "image_values": stored.values,
        "text_tokens": torch.zeros(*attention_mask.shape, encoders.text_encoder.width),
        "attention_mask": attention_mask,
    }
    inputs |= {} if stored.scales is None else {"image_scales": stored.scales}
    return _export(StoredPairScorer(pretrained.student).eval(), inputs, ["itm_logits"])


def trace_classifier(pretrained: Pretrained) -> torch.onnx.ONNXProgram:
    """The graph of a kind that has one, as ONNX; inputs as in `trace`. The student is on the CPU."""
    graph, side = pretrained.kind.graph(pretrained.student).eval(), pretrained.model.image.image_size
    names = inspect.signature(graph.forward).parameters
    inputs = {name: torch.zeros(2, 3, side, side) for name in names if name.endswith("pixel_values")}
    if "input_ids" in names:
        inputs |= dict(zip(("input_ids", "attention_mask"), _example_texts(pretrained), strict=True))
    return _export(graph, inputs, ["logits"])


def _example_texts(pretrained: Pretrained) -> tuple[Tensor, Tensor]:
    """Ids and mask of two texts."""
    input_ids = torch.zeros(2, min(EXAMPLE_TOKENS, pretrained.max_tokens), dtype=torch.int64)
    return input_ids, torch.ones_like(input_ids)


def random_texts(pretrained: Pretrained, rows: int, longest: int) -> tuple[Tensor, Tensor]:
    """Ids and mask [rows, at most longest], by which torch and a graph are compared; the first text is the longest,
    every other is shorter."""
    generator, longest = torch.Generator().manual_seed(rows), min(longest, pretrained.max_tokens)
    lengths = torch.linspace(longest, 2, rows).round()
    mask = (torch.arange(longest) < lengths[:, None]).long()
    ids = torch.randint(len(pretrained.tokenizer), (rows, longest), generator=generator)
    return ids.where(mask == 1, pretrained.tokenizer.pad_token_id), mask


def _export(graph: nn.Module, inputs: dict[str, Tensor], outputs: list[str]) -> torch.onnx.ONNXProgram:
    """`inputs` are examples: their first axis, and the second of what belongs to texts, may have any size."""
    any_length = ("input_ids", "attention_mask", "text_tokens")
    shapes = {name: {0: "batch", 1: "length"} if name in any_length else {0: "batch"} for name in inputs}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "# The axis name")  # said of every axis that two inputs share
        program = torch.onnx.export(
            graph, kwargs=inputs, dynamic_shapes=shapes, output_names=outputs, dynamo=True, verbose=False
        )
    # Notes of the exporter: stack traces, with the paths of this machine, and the names of all weights.
    program.model.graph.metadata_props.clear()
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
    return program
