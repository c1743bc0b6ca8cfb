"""Image encoder: any timm ViT with a [CLS] token, giving all its tokens after the final norm."""

import warnings
from contextlib import nullcontext
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from tcl.config.model import ImageEncoderConfig
from tcl.encoders.bounded_memory import refuse_too_large
from tcl.errors import InputError
from tcl.hub_access import hub_or_cache


class ImageEncoder(nn.Module):
    """A timm ViT as a function from images to tokens.

    `width` is the token width, `grid` the (rows, columns) of patches, `mean` and `std` the normalisation (3 values
    each, for pixels in 0..1), by default what the ViT's own configuration asks for.
    """

    def __init__(self, vit: nn.Module, mean: tuple[float, ...] | None, std: tuple[float, ...] | None):
        super().__init__()
        self.vit = vit
        vit.forward = vit.forward_features  # called as a module: ZeRO 3 hangs its hooks on that
        self.width: int = vit.num_features
        self.grid: tuple[int, int] = vit.patch_embed.grid_size
        self.skipped_prefix_tokens: int = vit.num_prefix_tokens - 1
        data_config = resolve_model_data_config(vit)
        self.mean: tuple[float, ...] = mean or data_config["mean"]
        self.std: tuple[float, ...] = std or data_config["std"]

    frozen_parts: tuple[nn.Module, ...] = ()
    """What of it is never trained."""

    @property
    def layers(self) -> list[nn.Module]:
        """Its transformer blocks."""
        return list(self.vit.blocks)

    def configure_layers(self, *, activation_checkpointing: bool, fused_attention: bool) -> None:
        """Compute layers again in the backward pass? Use torch's fused attention where a block can?"""
        if activation_checkpointing:
            self.vit.set_grad_checkpointing(True)
        if not fused_attention:
            for module in self.vit.modules():
                if hasattr(module, "fused_attn"):  # not every kind of block keeps its attention under the same name
                    module.fused_attn = False

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, 1 + patches, width]; token 0 is [CLS], patches follow row by row.

        Register and distillation tokens, where a ViT has them, are left out.
        """
        tokens = self.vit(image)
        if self.skipped_prefix_tokens:
            tokens = torch.cat([tokens[:, :1], tokens[:, 1 + self.skipped_prefix_tokens :]], dim=1)
        return tokens


def build_image_encoder(config: ImageEncoderConfig) -> ImageEncoder:
    """Create the ViT of `config`. InputError: unknown name, no [CLS] token, or weights that do not load."""
    arguments = {"img_size": config.image_size, "num_classes": 0, "global_pool": "token", **config.overrides}
    if config.pretrained:
        # Another number of classes than ours: timm lets the head of the file go, and what else does not fit.
        overlay = {"file": config.pretrained} if isinstance(config.pretrained, str) else {}
        arguments["pretrained_cfg_overlay"] = {"num_classes": -1} | overlay
    try:
        if config.pretrained:
            with hub_or_cache(config.name) if config.pretrained is True else nullcontext():
                vit = _load(config.name, arguments)
        else:
            refuse_too_large(lambda: timm.create_model(config.name, **arguments), "model.image")
            vit = timm.create_model(config.name, **arguments)
    except InputError:
        raise
    except Exception as error:  # timm raises whatever the constructor of the named model raises
        raise InputError(
            f"model.image: timm cannot build {config.name!r} with {arguments} (pretrained={config.pretrained!r}): "
            f"{' '.join(str(error).split())}; name a timm ViT with a [CLS] token, e.g. vit_base_patch16_224"
        ) from error
    if getattr(vit, "cls_token", None) is None or not _is_vit(vit):
        raise InputError(
            f"model.image.name: {config.name!r} is not a ViT with a [CLS] token; name one, e.g. vit_base_patch16_224"
        )
    return ImageEncoder(vit, config.mean, config.std)


def _load(name: str, arguments: dict[str, Any]) -> nn.Module:
    """The ViT with weights of a file or the hub; a warning names what the weights lack, which timm does not tell.

    Weights whose final norm stands behind a pooling (`fc_norm`) give it to the tokens.
    """
    vit, random = _load_and_compare(name, arguments)
    if any(parameter.startswith("norm.") for parameter in random):
        pooled, pooled_random = _load_and_compare(name, arguments | {"global_pool": "avg"})
        theirs = getattr(pooled, "fc_norm", None)
        if isinstance(theirs, type(vit.norm)) and not any(one.startswith("fc_norm.") for one in pooled_random):
            vit.norm.load_state_dict(theirs.state_dict())
            random = [parameter for parameter in random if not parameter.startswith("norm.")]
            warnings.warn(f"model.image: {name}: the weights' fc_norm is taken as the final norm", stacklevel=4)
    if random:
        more = f" and {len(random) - 5} more" if len(random) > 5 else ""
        warnings.warn(
            f"model.image: the weights of {name} lack {', '.join(random[:5])}{more}: they start random", stacklevel=4
        )
    return vit


def _load_and_compare(name: str, arguments: dict[str, Any]) -> tuple[nn.Module, list[str]]:
    """The ViT, and its parameters that are as in one that was made at the same state of the random numbers.

    Constants (biases of 0) may be so in trained weights too: of these only the final norm counts, unless nothing was
    trained at all.
    """
    with torch.random.fork_rng(devices=[]):
        new = dict(timm.create_model(name, **arguments).named_parameters())
    vit = timm.create_model(name, pretrained=True, **arguments)
    constant = {key for key, value in new.items() if bool((value == value.flatten()[0]).all())}
    untouched = [key for key, value in vit.named_parameters() if value.equal(new[key])]
    if len(untouched) == len(new):
        raise ValueError("the file has none of its weights")
    if constant.issuperset(untouched) and constant.issubset(untouched):
        return vit, []
    return vit, [key for key in untouched if key not in constant or key.startswith(("norm.", "fc_norm."))]


def _is_vit(vit: nn.Module) -> bool:
    """Has `vit` what ImageEncoder asks of it? Kin such as XCiT and PiT lack some."""
    patches = getattr(vit, "patch_embed", None)
    return hasattr(patches, "grid_size") and hasattr(vit, "num_prefix_tokens") and hasattr(vit, "num_features")
