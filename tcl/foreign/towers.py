"""Two towers of transformers, such as CLIP and SigLIP: whatever has `get_image_features`, `get_text_features` and a
learned scale for their cosines."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import MODEL_MAPPING, PreTrainedConfig, PreTrainedModel

from tcl.errors import InputError
from tcl.foreign.pictures import Transform, load_transform
from tcl.foreign.source import NEITHER, load_network, read_architecture
from tcl.foreign.words import Reader, load_reader

FILLED_UP = ("siglip", "siglip2")
"""Model types that were trained on texts of one length, and look at the padding: they pool the last place."""


@dataclass(frozen=True)
class Towers:
    """A network with what belongs to it."""

    network: PreTrainedModel
    transform: Transform
    reader: Reader
    embed_dim: int


def load_towers(source: str, revision: str | None) -> Towers:
    """InputError: another kind of model, and what `load_network`, `load_transform` and `load_reader` refuse."""
    architecture = read_architecture(source, revision)
    network = load_network(_class_of(architecture, source), architecture, source, revision)
    size = getattr(architecture.vision_config, "image_size", None)
    transform = load_transform(source, revision, size if isinstance(size, int) else None)
    fills_up = architecture.model_type in FILLED_UP
    reader = load_reader(source, revision, architecture.text_config, fills_up=fills_up)
    try:
        blank, text = transform(np.zeros((8, 8, 3), np.uint8)), reader.tokenize(["a"])
        dims = [
            image_features(network, blank[None]).shape[1],
            text_features(network, text.ids, text.mask).shape[1],
        ]
    except (ValueError, IndexError, RuntimeError, TypeError, AttributeError) as error:
        raise InputError(f"source: {source!r} ({architecture.model_type}) gives no embeddings; {NEITHER}") from error
    if dims[0] != dims[1]:
        raise InputError(f"source: {source!r} embeds images in {dims[0]} numbers, texts in {dims[1]}; {NEITHER}")
    return Towers(network, transform, reader, dims[0])


def temperature(network: PreTrainedModel) -> float:
    """By which cosines were divided in training; SigLIP's bias is the same for all classes."""
    return 1 / network.logit_scale.detach().exp().item()


@torch.no_grad()
def image_features(network: PreTrainedModel, pixels: Tensor) -> Tensor:
    """Pixels [B, 3, height, width] -> fp32 [B, embed_dim], rows of length 1."""
    return _unit(network.get_image_features(pixel_values=pixels))


@torch.no_grad()
def text_features(network: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Ids and mask [B, L] -> fp32 [B, embed_dim], rows of length 1."""
    return _unit(network.get_text_features(input_ids=input_ids, attention_mask=attention_mask))


def _unit(found: object) -> Tensor:
    features = found if isinstance(found, Tensor) else found.pooler_output  # a tensor before transformers 5
    if features.ndim != 2:
        raise ValueError(f"features {list(features.shape)}")
    return F.normalize(features.float(), dim=1)


def _class_of(architecture: PreTrainedConfig, source: str) -> type[PreTrainedModel]:
    network = MODEL_MAPPING.get(type(architecture), None)
    methods = ("get_image_features", "get_text_features")
    if (
        isinstance(network, type)
        and all(hasattr(network, name) for name in methods)
        and _has_scale(network, architecture)
    ):
        return network
    raise InputError(f"source: {source!r} ({architecture.model_type}) is none that embeds images and texts; {NEITHER}")


def _has_scale(network: type[PreTrainedModel], architecture: PreTrainedConfig) -> bool:
    """Known before its weights are read, which may be those of a language model."""
    try:
        with torch.device("meta"):
            return hasattr(network(architecture), "logit_scale")
    except Exception:  # of a constructor that needs numbers that are there
        return False
