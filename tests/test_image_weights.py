"""Weights of image networks: the final norm is found where the file has it, and what a file lacks is said."""

import os
import warnings

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

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


SIGLIP = ("vit_base_patch16_siglip_224", 32, SIZES)
CONVNEXT = ("convnext_atto", 32, {"depths": [1, 1, 1, 1], "dims": [4, 8, 12, 16]})
RESNET = ("resnet10t", 32, {"channels": [4, 4, 8, 8]})


def built_of(
    kind: tuple[str, int, dict],
    folder,
    *,
    classes: int = 5,
    dtype: torch.dtype | None = None,
    lacks: tuple[str, ...] = (),
):
    """The encoder with weights of a file, these weights, and what was said."""
    name, size, overrides = kind
    torch.manual_seed(3)
    sized = {"img_size": size} if name.startswith("vit") else {}
    network = timm.create_model(name, num_classes=classes, **sized, **overrides)
    weights = {key: torch.rand_like(t).to(dtype or t.dtype) for key, t in network.state_dict().items() if t.ndim}
    weights = {key: tensor for key, tensor in weights.items() if not (lacks and key.startswith(lacks))}
    save_file(weights, folder / "network.safetensors")
    config = ImageEncoderConfig(name, str(folder / "network.safetensors"), image_size=size, overrides=overrides)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        encoder = build_image_encoder(config)
    return encoder, weights, [str(one.message) for one in said if str(one.message).startswith("model.image")]


@pytest.mark.parametrize("dtype", [None, torch.float16])
@pytest.mark.parametrize("kind", [SIGLIP, CONVNEXT, RESNET])
def test_weights_of_all_kinds_load_without_a_word(kind, dtype, tmp_path):
    """Their classifiers are let go."""
    encoder, weights, said = built_of(kind, tmp_path, classes=1001, dtype=dtype)
    own = encoder.backbone.state_dict()
    assert all(own[name].equal(weights[name].float()) for name in own if own[name].ndim) and said == []
    assert {name.split(".")[0] for name in weights.keys() - own} <= {"head", "fc"}
    assert encoder.backbone.num_classes == 0


def test_a_head_that_is_let_go_is_not_missed(tmp_path):
    _, _, said = built_of(CONVNEXT, tmp_path, lacks=("head.",))
    assert said == []


@pytest.mark.parametrize(
    ("kind", "lacks", "first"),
    [
        (SIGLIP, ("attn_pool.kv.", "blocks.1.mlp.fc1.weight"), "blocks.1.mlp.fc1.weight, attn_pool.kv.weight"),
        (CONVNEXT, ("stages.2.blocks.0.conv_dw.", "head."), "stages.2.blocks.0.conv_dw.weight"),
        (RESNET, ("layer4.0.conv2.",), "layer4.0.conv2.weight"),
    ],
)
def test_what_a_file_of_another_kind_lacks_is_said(kind, lacks, first, tmp_path):
    _, _, said = built_of(kind, tmp_path, lacks=lacks)
    assert said == [f"model.image: the weights of {kind[0]} lack {first}: they start random"]


@pytest.mark.skipif("TCL_MOBILENET" not in os.environ, reason="TCL_MOBILENET names no file of MobileNetV2 weights")
def test_real_weights_of_a_mobilenet(recwarn):
    """Of 1001 classes, fp16, whose batch norms were folded: TensorFlow pads unevenly where PyTorch does not."""
    file = os.environ["TCL_MOBILENET"]
    config = ImageEncoderConfig(
        "mobilenetv2_100",
        file,
        128,
        width=64,
        frozen=True,
        overrides={"pad_type": "same"},
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
    )
    encoder = build_image_encoder(config)
    assert [str(one.message) for one in recwarn if str(one.message).startswith("model.image")] == []
    network = timm.create_model("mobilenetv2_100", pad_type="same", num_classes=1001).eval()
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(file).items()}, strict=False)
    image = encoder.train().prepare(torch.randint(256, (2, 3, 128, 128), dtype=torch.uint8))
    with torch.no_grad():
        features = network.forward_features(image).permute(0, 2, 3, 1)
        torch.testing.assert_close(
            encoder(image)[:, 1:], encoder.projection(features).flatten(1, 2) + encoder.positions
        )
    assert encoder.grid == (4, 4) and encoder.width == 64 and features.std() > 0.1
