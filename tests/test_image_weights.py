"""Weights of ViTs: the final norm is found where the file has it, and what a file lacks is said."""

import warnings

import pytest
import timm
import torch
from safetensors.torch import save_file

from tcl.config.model import ImageEncoderConfig
from tcl.encoders.build_image_encoder import build_image_encoder
from tcl.errors import InputError

SIZES = {"embed_dim": 24, "depth": 2, "num_heads": 2}
EVA, BEIT, PLAIN = "eva02_tiny_patch14_224", "beit_base_patch16_224", "vit_tiny_patch16_224"


def weights_of(name: str, **options) -> dict[str, torch.Tensor]:
    """Of a ViT that was trained: no parameter is as it starts."""
    torch.manual_seed(3)
    vit = timm.create_model(name, img_size=28 if name == EVA else 32, num_classes=5, **SIZES, **options)
    return {key: torch.randn_like(t) if t.is_floating_point() else t for key, t in vit.state_dict().items()}


def built(name: str, weights: dict[str, torch.Tensor], folder):
    """The encoder with `weights`, and what was said."""
    save_file(weights, folder / "vit.safetensors")
    size = 28 if name == EVA else 32
    config = ImageEncoderConfig(name, str(folder / "vit.safetensors"), image_size=size, overrides=SIZES)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        encoder = build_image_encoder(config)
    return encoder, [str(one.message) for one in said if str(one.message).startswith("model.image")]


@pytest.mark.parametrize("name", [EVA, BEIT, PLAIN])
def test_the_norm_behind_a_pooling_becomes_the_final_norm(name, tmp_path):
    weights = weights_of(name, global_pool="avg")
    assert "fc_norm.weight" in weights and "norm.weight" not in weights
    encoder, said = built(name, weights, tmp_path)
    assert encoder.vit.norm.weight.equal(weights["fc_norm.weight"])
    assert encoder.vit.norm.bias.equal(weights["fc_norm.bias"])
    assert said == [f"model.image: {name}: the weights' fc_norm is taken as the final norm"]


def test_weights_of_masked_pre_training_keep_their_norm(tmp_path):
    """timm moves the norm of such a file behind a pooling, where our tokens do not come by."""
    weights = weights_of(EVA, global_pool="token") | {"mask_token": torch.zeros(1, 1, 24)}
    encoder, _ = built(EVA, weights, tmp_path)
    assert encoder.vit.norm.weight.equal(weights["norm.weight"])


@pytest.mark.parametrize("name", [EVA, PLAIN])
def test_weights_that_are_whole_load_without_a_word(name, tmp_path):
    weights = weights_of(name, global_pool="token")
    encoder, said = built(name, weights, tmp_path)
    assert encoder.vit.norm.weight.equal(weights["norm.weight"]) and said == []


def test_what_a_file_lacks_is_said(tmp_path):
    weights = weights_of(PLAIN, global_pool="token")
    left_out = ("norm.", "blocks.1.attn.qkv.weight")
    _, said = built(PLAIN, {k: t for k, t in weights.items() if not k.startswith(left_out)}, tmp_path)
    assert said == [
        f"model.image: the weights of {PLAIN} lack blocks.1.attn.qkv.weight, norm.weight, norm.bias: they start random"
    ]


def test_a_file_of_something_else(tmp_path):
    with pytest.raises(InputError, match=r"^model\.image: .*the file has none of its weights"):
        built(PLAIN, {"other": torch.ones(2)}, tmp_path)
