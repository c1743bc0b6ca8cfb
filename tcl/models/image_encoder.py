"""Image encoder: any timm ViT with a [CLS] token, giving all its tokens after the final norm."""

import timm
import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn

from tcl.config import ImageEncoderConfig
from tcl.errors import InputError
from tcl.models.bounded_memory import refuse_too_large


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
    if isinstance(config.pretrained, str):
        arguments["pretrained_cfg_overlay"] = {"file": config.pretrained}
    try:
        if not config.pretrained:
            refuse_too_large(lambda: timm.create_model(config.name, **arguments), "model.image")
        vit = timm.create_model(config.name, pretrained=bool(config.pretrained), **arguments)
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


def _is_vit(vit: nn.Module) -> bool:
    """Has `vit` what ImageEncoder asks of it? Kin such as XCiT and PiT lack some."""
    patches = getattr(vit, "patch_embed", None)
    return hasattr(patches, "grid_size") and hasattr(vit, "num_prefix_tokens") and hasattr(vit, "num_features")
