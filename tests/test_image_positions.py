"""Learned positions of image encoders at another image size."""

import pytest
import timm
import torch
from timm.models.beit import checkpoint_filter_fn
from torch import nn
from torch.nn import functional as F

from tcl.config.model import ImageEncoderConfig
from tcl.encoders.build_image_encoder import build_image_encoder
from tcl.encoders.image_encoder import ImageEncoder
from tcl.encoders.image_positions import interpolate_positions

TINY = {"embed_dim": 24, "depth": 2, "num_heads": 2}
RESNET = {"channels": [4, 4, 8, 8]}


def built(name: str, size: int, overrides: dict) -> ImageEncoder:
    return build_image_encoder(ImageEncoderConfig(name, image_size=size, overrides=overrides))


def bicubic(positions: torch.Tensor, side: int, new: int) -> torch.Tensor:
    """[1, side^2, width] -> [1, new^2, width]."""
    plane = positions.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    return F.interpolate(plane, size=(new, new), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)


@pytest.mark.parametrize(
    ("name", "overrides", "position", "prefixed"),
    [
        ("vit_base_patch16_siglip_224", TINY, "vit.pos_embed", 0),
        ("vit_small_patch14_reg4_dinov2", TINY, "vit.pos_embed", 0),
        ("vit_medium_patch16_reg4_gap_256", TINY, "vit.pos_embed", 0),
        ("eva02_tiny_patch14_224", TINY, "vit.pos_embed", 1),
        ("convit_tiny", TINY | {"depth": 11}, "vit.pos_embed", 0),
        ("resnet10t", RESNET, "positions", 0),
    ],
)
def test_absolute_positions(name, overrides, position, prefixed):
    patch = 14 if "14" in name else 32 if name == "resnet10t" else 16
    small, large = (built(name, side * patch, overrides) for side in (2, 3))
    weights = {f"encoder.{key}": tensor for key, tensor in small.state_dict().items()}
    old = weights[f"encoder.{position}"]
    notices = interpolate_positions(nn.ModuleDict({"encoder": large}), weights, "init")
    assert notices == ["init: position embeddings interpolated from 2 x 2 to 3 x 3"]
    new = weights[f"encoder.{position}"]
    assert new[:, :prefixed].equal(old[:, :prefixed])
    torch.testing.assert_close(new[:, prefixed:], bicubic(old[:, prefixed:], 2, 3))
    large.load_state_dict({key.removeprefix("encoder."): tensor for key, tensor in weights.items()})
    side = 3 * patch
    assert large(torch.randn(1, 3, side, side)).shape[1] == 10


def test_relative_positions_as_timm_has_them():
    small, large = (built("beit_base_patch16_224", side * 16, TINY) for side in (3, 5))
    for block in small.vit.blocks:
        nn.init.normal_(block.attn.relative_position_bias_table)
    weights = small.state_dict()
    reference = timm.create_model("beit_base_patch16_224", img_size=80, num_classes=0, **TINY)
    expected = checkpoint_filter_fn({key.removeprefix("vit."): tensor for key, tensor in weights.items()}, reference)
    assert interpolate_positions(large, weights, "init") == ["init: relative positions interpolated to 5 x 5"]
    for i in range(2):
        name = f"blocks.{i}.attn.relative_position_bias_table"
        torch.testing.assert_close(weights[f"vit.{name}"], expected[name])
    large.load_state_dict(weights)


@pytest.mark.parametrize(("name", "overrides"), [("beit_base_patch16_224", TINY), ("resnet10t", RESNET)])
def test_the_same_size_is_left_as_it_is(name, overrides):
    encoder = built(name, 64, overrides)
    weights = encoder.state_dict()
    assert interpolate_positions(encoder, dict(weights), "init") == []
