"""The networks."""

import re
from dataclasses import dataclass, field
from typing import Any

from tcl.config.checks import check_at_least, require
from tcl.config.free import FREE
from tcl.errors import InputError


@dataclass
class ImageEncoderConfig:
    """The image encoder: a vision transformer, or a network that ends in a grid of features."""

    name: str = "vit_base_patch16_224"
    """Of timm: a ViT (vit_*, deit3_*, eva02_*, beit_*, vit_*_siglip_*), whose global token is [CLS] or else what it
    pools; or a hierarchical or convolutional network (swin_*, convnext_*, resnet*, mobilenetv2_*), whose last features
    are the patches and their mean the global token. The paper uses ViT-B/16."""
    pretrained: bool | str = field(default=False, metadata=FREE)
    """True: timm's weights of that name from the hub; a path: weights from that file; False: random."""
    image_size: int = 256
    """Side of the square input in pixels, a multiple of the patch size. 256 in the paper's pre-training."""
    width: int | None = None
    """Width of the tokens to which a grid of features is projected, >= 1. None: the network's number of features. The
    tokens of a ViT stay as they are: leave it out."""
    frozen: bool = False
    """Leave the pre-trained network as it is: not trained, batch norms, dropout and dropped paths in eval mode. The
    projection of a grid is trained."""
    patch_drop: float = 0.0
    """Share of the patches that the trained network does not look at while it trains, 0 <= p < 1, as in FLIP (0.5):
    faster steps. Only for ViTs whose positions are absolute or rotary."""
    mean: tuple[float, float, float] | None = None
    """Of pixels in 0..1, per channel, subtracted from every image. None: what timm names for the encoder, and what the
    published code used (CLIP's) where fine-tuning starts from a published .pth."""
    std: tuple[float, float, float] | None = None
    """By which images are divided then; None as for mean."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Arguments passed on to timm.create_model, e.g. {embed_dim: 192, depth: 6, num_heads: 3, patch_size: 8}."""


@dataclass
class TextEncoderConfig:
    """The BERT-like encoder: its lower layers read text, its upper layers become the fusion encoder."""

    name: str = "bert"
    """A transformers model type (bert, roberta, ...: that architecture at its default size), a hub id such as
    bert-base-uncased, or a local folder."""
    pretrained: bool | str = field(default=False, metadata=FREE)
    """True: weights from `name`; a path: weights from that folder; False: random. Only a hub id or folder has
    weights to load."""
    tokenizer: str = field(default="bert-base-uncased", metadata=FREE)
    """Hub id or local folder of the tokenizer. `tcl tokenizer` makes one from your own captions. A run goes on with the
    tokenizer of another place, but not with other words, unless train.resume is given."""
    fusion_layers: int | None = None
    """How many upper layers become the fusion encoder, 1 to layers - 1. Default: half of them, as in the paper."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Arguments for the transformers config, e.g. {hidden_size: 192, num_hidden_layers: 8}. vocab_size is taken from
    the tokenizer unless the weights are pre-trained."""


@dataclass
class ModelConfig:
    """The networks: image encoder, text encoder, fusion encoder, projections."""

    image: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    text: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    embed_dim: int = 256
    """Width of the shared image-text space, >= 1. 256 in the paper."""
    lmi_regions: int = 4
    """Image patches are pooled to lmi_regions x lmi_regions regions before LMI, >= 1. 4 in the paper at 256 px."""


def check_model(model: ModelConfig) -> None:
    """Sizes; whether names can be built is for timm and transformers to say."""
    check_at_least(1, {"model.embed_dim": model.embed_dim, "model.lmi_regions": model.lmi_regions})
    check_image_size(model.image)
    check_at_least(1, {"model.image.width": model.image.width})
    drop = model.image.patch_drop
    require(0 <= drop < 1, "model.image.patch_drop", drop, "0 <= p < 1")
    own_drop = model.image.overrides.get("patch_drop_rate", 0)
    require(not own_drop, "model.image.overrides.patch_drop_rate", own_drop, "none; set model.image.patch_drop")
    for name in ("mean", "std"):
        values = getattr(model.image, name)
        least = 0 if name == "mean" else 0.001
        fits = values is None or all(least <= value <= 1 for value in values)
        require(fits, f"model.image.{name}", values, f"three numbers from {least} to 1")
    for part in ("image", "text"):
        for name, value in getattr(model, part).overrides.items():
            most = 1024 if re.search(r"depth|layers|heads", name) else 2**24
            numbers = value if isinstance(value, list) else [value]
            fits = all(not isinstance(number, (int, float)) or abs(number) <= most for number in numbers)
            require(fits, f"model.{part}.overrides.{name}", value, f"at most {most:,}")


def check_image_size(image: ImageEncoderConfig) -> None:
    """The size is a multiple of the patch size that the name or the overrides give."""
    check_at_least(1, {"model.image.image_size": image.image_size})
    in_name = re.search(r"patch(\d+)", image.name)
    patch = image.overrides.get("patch_size", int(in_name[1]) if in_name else None)
    sized = patch is None or (isinstance(patch, int) and not isinstance(patch, bool) and patch >= 1)
    require(sized or isinstance(patch, list), "model.image.overrides.patch_size", patch, "a whole number >= 1")
    if isinstance(patch, list):
        return  # one for each side is for timm to say
    if patch is not None and image.image_size % patch:
        near = max(patch, round(image.image_size / patch) * patch)
        raise InputError(
            f"model.image.image_size: {image.image_size} is not a multiple of the patch size {patch} of {image.name}; "
            f"use e.g. {near}"
        )
