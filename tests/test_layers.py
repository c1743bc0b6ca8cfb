"""How layers are run on a CPU in bf16: without fused attention, whatever the ViT's blocks look like."""

import copy

import pytest
import torch
from tiny import MODEL, tiny_models

from tcl.config.model import ImageEncoderConfig, ModelConfig
from tcl.config.train import TrainConfig
from tcl.encoders.product_attention import ProductAttention
from tcl.models.encoders import Encoders
from tcl.training.layers import prepare_layers

CPU = torch.device("cpu")
SIDE_BY_SIDE, ITSELF = "vit_small_patch16_18x2_224", "vit_base_patch16_xp_224"
"""Blocks of several attentions, and blocks that are themselves an attention, which is not timm's usual one."""


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
    """Of each attention, as far as it is timm's: is it torch's kernel?"""
    kinds = (module for module in networks.image_encoder.modules() if hasattr(module, "fused_attn"))
    return [module.fused_attn and not isinstance(module, ProductAttention) for module in kinds]


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", SIDE_BY_SIDE, ITSELF])
def test_plain_attention_on_a_cpu_in_bf16_gives_the_tokens_of_fused_attention(name):
    as_built = networks_with(name)
    plain = copy.deepcopy(as_built)
    prepare_layers(plain, TrainConfig(), CPU, bf16=True)
    assert all(fused(as_built)) == (name == ITSELF) and fused(plain) and not any(fused(plain))
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        tokens, expected = plain.image_encoder(image), as_built.image_encoder(image)
        torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(plain.image_encoder(image).float(), expected, rtol=0.1, atol=0.1)


def test_attention_stays_fused_in_fp32_and_on_other_devices():
    networks = networks_with(ITSELF)
    prepare_layers(networks, TrainConfig(), CPU, bf16=False)
    prepare_layers(networks, TrainConfig(), torch.device("cuda"), bf16=True)
    assert all(fused(networks))


def test_what_is_computed_again_as_a_whole_is_not_computed_again_in_parts():
    networks = networks_with("vit_tiny_patch16_224")
    lean = [module.lean for module in networks.modules() if hasattr(module, "lean")]
    assert lean and all(lean)
    prepare_layers(networks, TrainConfig(activation_checkpointing=True), CPU, bf16=False)
    assert not any(module.lean for module in networks.modules() if hasattr(module, "lean"))
