"""The sizes of the networks of a published checkpoint, read off the shapes of its tensors."""

import re
from dataclasses import dataclass

from torch import Tensor

from tcl.checkpoints.initial import PUBLISHED_MEAN, PUBLISHED_STD
from tcl.checkpoints.published import count_text_layers, has_doubled_layers
from tcl.config.model import ImageEncoderConfig, ModelConfig, TextEncoderConfig
from tcl.errors import InputError

HEADS = {128: 2, 192: 3, 256: 4, 384: 6, 512: 8, 768: 12, 1024: 16}
"""Attention heads by width, as ViTs and BERTs of these widths have them; no tensor's shape tells."""


@dataclass
class Heads:
    """Attention heads; None: as is usual for the width."""

    image: int | None = None
    text: int | None = None


def infer_model(state: dict[str, Tensor], heads: Heads, tokenizer: str) -> ModelConfig:
    """The model of a published state dict, with the published normalisation; `tokenizer` is named in it.

    InputError: tensors are missing, or a number of heads is unusual and not given.
    """
    bert = "text_encoder.bert." if "text_encoder.bert.embeddings.word_embeddings.weight" in state else "text_encoder."
    words, positions = (_of(state, f"{bert}embeddings.{n}_embeddings.weight") for n in ("word", "position"))
    vocab_size, width = words.shape
    layers, text_layers = _count(rf"{re.escape(bert)}encoder\.layer\.(\d+)\.", state), count_text_layers(state)
    if has_doubled_layers(state):
        layers = text_layers + (layers - text_layers) // 2
    text = {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": _heads(heads.text, width, "text_heads"),
        "intermediate_size": len(_of(state, f"{bert}encoder.layer.0.intermediate.dense.weight")),
        "max_position_embeddings": len(positions),
        "type_vocab_size": len(_of(state, f"{bert}embeddings.token_type_embeddings.weight")),
    }
    return ModelConfig(
        image=_infer_image(state, heads.image),
        text=TextEncoderConfig(tokenizer=tokenizer, fusion_layers=layers - text_layers, overrides=text),
        embed_dim=len(state["vision_proj.weight"]) if "vision_proj.weight" in state else ModelConfig.embed_dim,
    )


def count_decoder_layers(state: dict[str, Tensor]) -> int | None:
    """Of a VQA checkpoint; None: it is none."""
    return _count(r"text_decoder\.bert\.encoder\.layer\.(\d+)\.", state) or None


def _infer_image(state: dict[str, Tensor], heads: int | None) -> ImageEncoderConfig:
    patches = _of(state, "visual_encoder.patch_embed.proj.weight", 4)
    width, patch = patches.shape[0], patches.shape[-1]
    tokens = _of(state, "visual_encoder.pos_embed", 3).shape[1] - 1
    side = round(tokens**0.5)
    if side**2 != tokens:
        raise InputError(
            f"source: visual_encoder.pos_embed has {tokens + 1} positions; accepted: [CLS] and a square of patches"
        )
    sizes = {
        "patch_size": patch,
        "embed_dim": width,
        "depth": _count(r"visual_encoder\.blocks\.(\d+)\.", state),
        "num_heads": _heads(heads, width, "image_heads"),
        "mlp_ratio": len(_of(state, "visual_encoder.blocks.0.mlp.fc1.weight")) / width,
    }
    return ImageEncoderConfig(image_size=side * patch, mean=PUBLISHED_MEAN, std=PUBLISHED_STD, overrides=sizes)


def _heads(given: int | None, width: int, option: str) -> int:
    heads = given if given is not None else HEADS.get(width)
    if heads is None:
        raise InputError(
            f"{option}: not given, and no tensor tells the number of attention heads of a width of {width}; give it"
        )
    if heads < 1 or width % heads:
        raise InputError(f"{option}: {heads} is not possible; accepted: a divisor of the width {width}")
    return heads


def _count(pattern: str, state: dict[str, Tensor]) -> int:
    """Layers are numbered from 0."""
    found = (re.match(pattern, name) for name in state)
    return max((int(number[1]) + 1 for number in found if number), default=0)


def _of(state: dict[str, Tensor], name: str, dims: int = 2) -> Tensor:
    tensor = state.get(name)
    if tensor is None or tensor.ndim != dims or 0 in tensor.shape:
        found = "not there" if tensor is None else f"{tuple(tensor.shape)}"
        raise InputError(f"source: {name} is {found}; accepted: {dims} dimensions, as in published checkpoints")
    return tensor
