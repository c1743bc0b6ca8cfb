"""How layers are run on a CPU in bf16: without fused attention, whatever the ViT's blocks look like."""

import copy

import pytest
import torch
from tiny import MODEL, tiny_models

from tcl.config.model import ImageEncoderConfig, ModelConfig
from tcl.config.train import TrainConfig
from tcl.models.encoders import Encoders
from tcl.training.layers import prepare_layers

CPU = torch.device("cpu")
WITHOUT_ATTN = ("vit_small_patch16_18x2_224", "vit_base_patch16_xp_224")
"""Blocks of several attentions side by side, and blocks that are themselves an attention."""


def networks_with(name: str) -> Encoders:
    """In eval mode, with weights so large that attention has its say."""
    image = ImageEncoderConfig(name, image_size=32, overrides=MODEL.image.overrides)
    student, _ = tiny_models(model=ModelConfig(image, MODEL.text, embed_dim=8))
    with torch.no_grad():
        for parameter in student.averaged.image_encoder.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    return student.averaged.eval()


def fused(networks: Encoders) -> list[bool]:
    return [module.fused_attn for module in networks.image_encoder.modules() if hasattr(module, "fused_attn")]


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", *WITHOUT_ATTN])
def test_plain_attention_on_a_cpu_in_bf16_gives_the_tokens_of_fused_attention(name):
    as_built = networks_with(name)
    plain = copy.deepcopy(as_built)
    prepare_layers(plain, TrainConfig(), CPU, bf16=True)
    assert all(fused(as_built)) and fused(plain) and not any(fused(plain))
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        tokens, expected = plain.image_encoder(image), as_built.image_encoder(image)
        torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(plain.image_encoder(image).float(), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("name", WITHOUT_ATTN)
def test_attention_stays_fused_in_fp32_and_on_other_devices(name):
    networks = networks_with(name)
    prepare_layers(networks, TrainConfig(), CPU, bf16=False)
    prepare_layers(networks, TrainConfig(), torch.device("cuda"), bf16=True)
    assert all(fused(networks))
