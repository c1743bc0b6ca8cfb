"""Hierarchical and convolutional networks (Swin, ConvNeXt, ResNet, MobileNet, ...): a map of features as tokens."""

import math

import torch
from torch import Tensor, nn

from tcl.config.model import ImageEncoderConfig
from tcl.encoders.image_encoder import ImageEncoder, cannot_drop
from tcl.errors import InputError


class GridEncoder(ImageEncoder):
    """A timm network whose features have a place in the image: projected, with learned positions, they are the patches,
    and their mean is the global token.

    `width` is config.width, by default the network's number of features. Projection and positions start random and are
    trained even where the backbone is frozen. `example` is what the network gives for an image of its size; only its
    shape is read. InputError: it is no grid.
    """

    def __init__(self, backbone: nn.Module, config: ImageEncoderConfig, example: Tensor):
        super().__init__(backbone, config)
        self.backbone = backbone
        self.channels_last = getattr(backbone, "output_fmt", None) == "NHWC"
        prefix_tokens = _prefix_tokens(backbone)
        features, self.grid = _features_and_grid(example, self.channels_last, prefix_tokens, config.name)
        self.prefix_tokens = prefix_tokens if example.ndim == 3 else 0
        self.width = config.width or features
        self.projection = nn.Linear(features, self.width)
        self.positions = nn.Parameter(torch.empty(1, math.prod(self.grid), self.width))
        nn.init.trunc_normal_(self.positions, std=0.02)

    def tokens(self, features: Tensor) -> Tensor:
        """[B, 1 + patches, width], as `ImageEncoder` says."""
        patches = self.projection(features[:, self.prefix_tokens :]) + self.positions
        return torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1)

    def _run(self, image: Tensor, patch_drop: float = 0.0) -> Tensor:
        """The map of the network, row by row, or its sequence."""
        if patch_drop:
            raise InputError(cannot_drop(patch_drop, type(self.backbone).__name__))
        # Convolutions are faster where the channels of a pixel stand together.
        features = self.backbone(image.contiguous(memory_format=torch.channels_last))
        if features.ndim == 3:
            return features
        return features.flatten(1, 2) if self.channels_last else features.flatten(2).transpose(1, 2)


def _prefix_tokens(backbone: nn.Module) -> int:
    """How many tokens of a sequence are no patches."""
    told = getattr(backbone, "num_prefix_tokens", None)
    return int(getattr(backbone, "cls_token", None) is not None) if told is None else told


def _features_and_grid(
    example: Tensor, channels_last: bool, prefix_tokens: int, name: str
) -> tuple[int, tuple[int, int]]:
    shape = tuple(example.shape) if isinstance(example, Tensor) else ()
    if len(shape) == 4:
        rows, columns, features = shape[1:] if channels_last else (*shape[2:], shape[1])
        return features, (rows, columns)
    side = math.isqrt(max(0, shape[1] - prefix_tokens)) if len(shape) == 3 else 0
    if side == 0 or side**2 + prefix_tokens != shape[1]:
        raise InputError(
            f"model.image.name: the features of {name!r} are no grid over the image ({shape or type(example).__name__})"
            f"; name a network whose last features are, e.g. resnet50 or swin_tiny_patch4_window7_224"
        )
    return shape[2], (side, side)
