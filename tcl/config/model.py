"""The networks."""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from tcl.config.audio import AudioConfig, check_audio
from tcl.config.checks import check_at_least, require
from tcl.config.free import AS_BEFORE, FREE
from tcl.config.spaces import SpacesConfig, check_spaces
from tcl.config.video import VideoConfig, check_video
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
    width: int | None = field(default=None, metadata=AS_BEFORE)
    """Width of the tokens to which a grid of features is projected, >= 1. None: the network's number of features. The
    tokens of a ViT stay as they are: leave it out."""
    frozen: bool = field(default=False, metadata=AS_BEFORE)
    """Leave the pre-trained network as it is: not trained, batch norms, dropout and dropped paths in eval mode. The
    projection of a grid is trained. Needed where data.train holds stored tokens (`tcl shards --tokens`)."""
    frozen_norms: bool = field(default=False, metadata=AS_BEFORE)
    """Batch norms of a network that is trained go on with the running statistics that they came with, as in evaluation:
    for fine-tuning with small batches, or weights into which they were folded. Their weights and biases are trained."""
    remember: int = field(default=0, metadata=FREE | AS_BEFORE)
    """Views of training images, >= 0, of which a frozen network's features stay in memory, in each process: a view that
    comes again costs nothing. For augmentations that repeat views: data.augment.views."""
    patch_drop: float = field(default=0.0, metadata=AS_BEFORE)
    """Share of the patches that the trained network does not look at while it trains, 0 <= p < 1, as in FLIP (0.5):
    faster steps. Only for ViTs whose positions are absolute or rotary."""
    position_std: float | None = field(default=None, metadata=FREE | AS_BEFORE)
    """Standard deviation, > 0, of position embeddings that start random: of a ViT without pre-trained weights, and of a
    grid. None: 0.02, which a short run hardly outgrows, so that its model knows what there is but not where."""
    mean: tuple[float, float, float] | None = None
    """Of pixels in 0..1, per channel, subtracted from every image. None: what timm names for the encoder, and what the
    published code used (CLIP's) where fine-tuning starts from a published .pth."""
    std: tuple[float, float, float] | None = None
    """By which images are divided then; None as for mean."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Arguments passed on to timm.create_model, e.g. {embed_dim: 192, depth: 6, num_heads: 3, patch_size: 8}."""


@dataclass
class TextEncoderConfig:
    """The encoder of texts: the lower layers of a BERT-like model, whose upper layers become the fusion encoder, or all
    layers of any transformers encoder where model.fusion.layers gives the fusion encoder its own."""

    name: str = "bert"
    """A transformers model type (bert, roberta, ...: that architecture at its default size), a hub id such as
    bert-base-uncased, or a local folder. modernbert, distilbert, mpnet, t5 and others that are not built of BERT layers
    need model.fusion.layers."""
    pretrained: bool | str = field(default=False, metadata=FREE)
    """True: weights from `name`; a path: weights from that folder; False: random. Only a hub id or folder has
    weights to load."""
    tokenizer: str = field(default="bert-base-uncased", metadata=FREE)
    """Hub id or local folder of the tokenizer. `tcl tokenizer` makes one from your own captions. A run goes on with the
    tokenizer of another place, but not with other words, unless train.resume is given."""
    fusion_layers: int | None = None
    """How many upper layers become the fusion encoder, 1 to layers - 1. Default: half of them, as in the paper; none
    where model.fusion.layers is given."""
    frozen: bool = field(default=False, metadata=AS_BEFORE)
    """Embeddings and layers that read text are never trained: they need no gradients, no optimiser state and no copy
    for the teacher, and run without dropout."""
    remember: int = field(default=0, metadata=FREE | AS_BEFORE)
    """Training texts, >= 0, of which a frozen network's tokens stay in memory, in each process; none of masked ones."""
    pooling: Literal["cls", "mean"] = field(default="cls", metadata=AS_BEFORE)
    """What stands for the whole text, in place of the first token: that token as it is, or the mean of the text's
    tokens, as in sentence-transformers, whose models say little in [CLS]."""
    overrides: dict[str, Any | dict[str, Any | dict[str, Any]]] = field(default_factory=dict)
    """Arguments for the transformers config, e.g. {hidden_size: 192, num_hidden_layers: 8}. vocab_size is taken from
    the tokenizer unless the weights are pre-trained."""


FUSION_SIZES = (
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "layer_norm_eps",
    "initializer_range",
)
"""What model.fusion.overrides may set."""


@dataclass
class FusionConfig:
    """A fusion encoder of its own depth and width; without `layers`, it is the upper layers of the text encoder's."""

    layers: int | None = None
    """Its layers, 1 to 1024: as BERT's, with cross-attention to the image. The text encoder then keeps all of its own.
    Default: the upper layers of model.text."""
    width: int | None = None
    """Width of its tokens, a multiple of heads. Default: the text encoder's, or that of the BERT in `pretrained`. Where
    it is not the text encoder's, a linear layer brings tokens to it."""
    heads: int | None = None
    """Attention heads. Default: one for each 64 of the width, or as many as the BERT in `pretrained` has."""
    pretrained: str | None = None
    """A BERT, hub id or local folder, whose upper layers it starts from, as many as `layers`. Default: random."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Of its layers, as in a BERT's config: intermediate_size, hidden_act, hidden_dropout_prob,
    attention_probs_dropout_prob, layer_norm_eps, initializer_range. Default: 4 times the width, gelu, 0.1, 0.1, 1e-12,
    0.02, or as the BERT in `pretrained` has them."""
    image_tokens: int | None = field(default=None, metadata=AS_BEFORE)
    """To how many tokens those of an image are compressed before the fusion encoder looks at them, 1 to as many as
    there are, by learned queries (EDJE): faster matching, and less to store of an image. Whatever fusion encoder there
    is can have it. None: it looks at all. Embeddings are made of the tokens as they are."""


@dataclass
class ModelConfig:
    """The networks: image encoder, text encoder, fusion encoder, projections; of clips, how the image encoder sees
    them, the encoder of sound, and the spaces of all three."""

    image: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    text: TextEncoderConfig = field(default_factory=TextEncoderConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig, metadata=AS_BEFORE)
    embed_dim: int = 256
    """Width of the shared image-text space, >= 1. 256 in the paper."""
    lmi_regions: int = 4
    """Image patches are pooled to lmi_regions x lmi_regions regions before LMI, >= 1. 4 in the paper at 256 px."""
    video: VideoConfig = field(default_factory=VideoConfig, metadata=AS_BEFORE)
    audio: AudioConfig = field(default_factory=AudioConfig, metadata=AS_BEFORE)
    spaces: SpacesConfig = field(default_factory=SpacesConfig, metadata=AS_BEFORE)


def check_model(model: ModelConfig) -> None:
    """Sizes; whether names can be built is for timm and transformers to say."""
    check_at_least(1, {"model.embed_dim": model.embed_dim, "model.lmi_regions": model.lmi_regions})
    check_image_size(model.image)
    check_at_least(1, {"model.image.width": model.image.width})
    for part, section in (("image", model.image), ("text", model.text)):
        accepted = "a number of views or texts, >= 0" if section.frozen else f"0, unless model.{part}.frozen is true"
        require(
            section.remember == 0 or (section.remember > 0 and section.frozen),
            f"model.{part}.remember",
            section.remember,
            accepted,
        )
    drop = model.image.patch_drop
    require(0 <= drop < 1, "model.image.patch_drop", drop, "0 <= p < 1")
    std = model.image.position_std
    require(std is None or 0 < std <= 10, "model.image.position_std", std, "a number > 0, at most 10, or null")
    own_drop = model.image.overrides.get("patch_drop_rate", 0)
    require(not own_drop, "model.image.overrides.patch_drop_rate", own_drop, "none; set model.image.patch_drop")
    check_fusion(model)
    check_video(model.video)
    check_audio(model.audio)
    check_spaces(model.spaces)
    for name in ("mean", "std"):
        values = getattr(model.image, name)
        least = 0 if name == "mean" else 0.001
        fits = values is None or all(least <= value <= 1 for value in values)
        require(fits, f"model.image.{name}", values, f"three numbers from {least} to 1")
    for part in ("image", "text", "fusion", "audio"):
        for name, value in getattr(model, part).overrides.items():
            most = 1024 if re.search(r"depth|layers|heads", name) else 2**24
            numbers = value if isinstance(value, list) else [value]
            fits = all(not isinstance(number, (int, float)) or abs(number) <= most for number in numbers)
            require(fits, f"model.{part}.overrides.{name}", value, f"at most {most:,}")


def check_fusion(model: ModelConfig) -> None:
    """A fusion encoder of its own has sizes that fit together, and nothing sets sizes of one that is not there."""
    fusion = model.fusion
    check_at_least(1, {"model.fusion.image_tokens": fusion.image_tokens})
    if fusion.layers is None:
        for name, value in vars(fusion).items():
            fits = not value or name == "image_tokens"
            require(fits, f"model.fusion.{name}", value, "nothing, unless model.fusion.layers is given")
        return
    require(1 <= fusion.layers <= 1024, "model.fusion.layers", fusion.layers, "a number of layers, 1 to 1024")
    require(
        model.text.fusion_layers is None,
        "model.text.fusion_layers",
        model.text.fusion_layers,
        "nothing beside model.fusion.layers, with which all layers of model.text read text",
    )
    for name, most in (("width", 2**16), ("heads", 1024)):
        value = getattr(fusion, name)
        require(value is None or 1 <= value <= most, f"model.fusion.{name}", value, f"a number from 1 to {most:,}")
    if fusion.width is not None and fusion.heads is not None:
        check_heads(fusion.width, fusion.heads)
    for name, value in fusion.overrides.items():
        require(name in FUSION_SIZES, f"model.fusion.overrides.{name}", value, f"only {', '.join(FUSION_SIZES)}")


def check_heads(width: int, heads: int) -> None:
    """Of a fusion encoder, each head sees as much of the width as any other."""
    if width % heads:
        raise InputError(
            f"model.fusion.heads: {heads} is not possible; accepted: a divisor of the fusion encoder's width, {width}"
        )


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
