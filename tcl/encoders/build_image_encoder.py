"""From the configuration of an image encoder to the encoder: which kind it is, and that it can be built."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from tcl.config.model import ImageEncoderConfig
from tcl.encoders.bounded_memory import bounded_memory
from tcl.encoders.grid_encoder import GridEncoder
from tcl.encoders.image_encoder import ImageEncoder, batch_norms, cannot_drop
from tcl.encoders.image_weights import create, load
from tcl.encoders.vit_encoder import ViTEncoder
from tcl.errors import InputError
from tcl.hub_access import hub_or_cache


def build_image_encoder(config: ImageEncoderConfig) -> ImageEncoder:
    """The encoder of `config`, with random or pre-trained weights; only what takes part in its tokens is trained.

    InputError: unknown name, sizes that do not fit it or the machine, options that its kind does not have, or weights
    that do not load.
    """
    arguments = {"img_size": config.image_size, "num_classes": 0, **config.overrides}
    if config.pretrained:
        # Another number of classes than ours: timm lets the head of the file go, and what else does not fit.
        overlay = {"file": config.pretrained} if isinstance(config.pretrained, str) else {}
        arguments["pretrained_cfg_overlay"] = {"num_classes": -1} | overlay
    hub: AbstractContextManager = hub_or_cache(config.name) if config.pretrained is True else nullcontext()
    try:
        with hub:
            arguments, example, unused, kept = _outline(config, arguments)
            backbone = load(config.name, arguments, unused) if config.pretrained else create(config.name, arguments)
    except InputError:
        raise
    except Exception as error:  # timm raises whatever the constructor of the named model raises
        raise InputError(
            f"model.image: timm cannot build {config.name!r} with {arguments} (pretrained={config.pretrained!r}): "
            f"{' '.join(str(error).split())}; name a network of timm, e.g. vit_base_patch16_224, and sizes that fit it"
        ) from error
    encoder = _around(backbone, config, example)
    if config.position_std is not None:
        _spread_positions(encoder, config)
    encoder.kept_elements = kept
    for name in unused:  # DDP waits for the gradient of every trainable parameter
        encoder.backbone.get_parameter(name).requires_grad_(False)
    if config.frozen:
        encoder.freeze_backbone()
    if config.frozen_norms:
        encoder.freeze_norms()
    return encoder


@torch.inference_mode(False)
@torch.enable_grad()
def _outline(
    config: ImageEncoderConfig, arguments: dict[str, Any]
) -> tuple[dict[str, Any], Tensor | None, set[str], int | None]:
    """Build the network without memory, and run it. What to make the real one with, what features it gives for one
    image (only the shape; None: it is a ViT), the names of its parameters that take no part in the tokens, and, unless
    it is a ViT, `ImageEncoder.kept_elements`."""
    backbone = _without_memory(config.name, arguments)
    if getattr(backbone, "cls_token", None) is not None and _is_vit(backbone):
        arguments = {"global_pool": "token"} | arguments
        if getattr(backbone, "global_pool", None) != arguments["global_pool"]:
            backbone = _without_memory(config.name, arguments)
    backbone.eval()
    image = torch.zeros(1, 3, config.image_size, config.image_size, device="meta")
    example = None if _is_vit(backbone) else backbone.forward_features(image)
    with torch.device("meta"):
        encoder = _around(backbone, config, example)
    parameters = {name: value for name, value in backbone.named_parameters() if value.requires_grad}
    tokens, (rows, columns) = encoder(image), encoder.grid
    if tokens.shape[1] != 1 + rows * columns:  # e.g. a ConViT of so few blocks that [CLS] never joins
        raise ValueError(f"it gives {tokens.shape[1]} tokens for an image, not 1 + {rows} x {columns}")
    gradients = torch.autograd.grad(tokens.sum(), list(parameters.values()), allow_unused=True)
    unused = {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is None}
    return arguments, example, unused, None if example is None else _kept(encoder, image)


def _kept(encoder: ImageEncoder, image: Tensor) -> int:
    """Elements that are kept for the backward pass for each image more."""
    kept: list[dict[int, int]] = []
    for images in (image, image.repeat(2, 1, 1, 1)):
        sizes: dict[int, int] = {}

        def keep(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            storage = tensor.untyped_storage()  # what two operations keep is there once
            sizes[StorageWeakRef(storage).cdata] = storage.nbytes() // tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            tokens = encoder(images)  # held, and with it all that is kept, until the next
        kept.append(sizes)
        del tokens
    one, two = (sum(sizes.values()) for sizes in kept)
    return two - one


def _without_memory(name: str, arguments: dict[str, Any]) -> nn.Module:
    with bounded_memory("model.image"), torch.device("meta"):
        return create(name, arguments)


def _around(backbone: nn.Module, config: ImageEncoderConfig, example: Tensor | None) -> ImageEncoder:
    """The encoder of the kind that `backbone` is. InputError: it has no such options."""
    if example is not None:
        encoder: ImageEncoder = GridEncoder(backbone, config, example)
    elif config.width is None:
        encoder = ViTEncoder(backbone, config)
    else:
        raise InputError(
            f"model.image.width: {config.width} is not possible with {config.name!r}, a ViT, whose tokens stay as they "
            f"are; leave it out, or set overrides.embed_dim"
        )
    if config.patch_drop and not getattr(encoder, "can_drop_patches", False):
        raise InputError(cannot_drop(config.patch_drop, type(backbone).__name__))
    if config.frozen_norms and not batch_norms(backbone):
        raise InputError(f"model.image.frozen_norms: True, but {config.name!r} has no batch norms; accepted: false")
    return encoder


def _spread_positions(encoder: ImageEncoder, config: ImageEncoderConfig) -> None:
    """InputError: it has no positions that start random."""
    start_random = not config.pretrained or isinstance(encoder, GridEncoder)
    if encoder.positions is None or not start_random:
        reason = "whose positions are in its weights" if config.pretrained else "which learns no absolute positions"
        raise InputError(
            f"model.image.position_std: {config.position_std} is not possible with {config.name!r}, {reason}; "
            f"leave it out"
        )
    nn.init.normal_(encoder.positions, std=config.position_std)


def _is_vit(backbone: nn.Module) -> bool:
    """Has `backbone` what ViTEncoder asks of it? Kin such as XCiT and PiT lack some."""
    has = all(hasattr(backbone, name) for name in ("num_prefix_tokens", "num_features", "blocks", "norm"))
    return has and hasattr(getattr(backbone, "patch_embed", None), "grid_size")
