"""A ViT's block with its attention in the open computes what it computes; and the similarity's map, by differences."""

import copy

import pytest
import torch
from tiny import BERT, VOCABULARY
from torch.nn import functional as F

from tcl.config.model import ImageEncoderConfig, ModelConfig, TextEncoderConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.encoders.watched_block import run_from, run_to
from tcl.errors import InputError
from tcl.evaluation.text_maps import watched
from tcl.models.encoders import build_encoders
from tcl.models.grad_cam import similarity_maps
from tcl.objectives.tcl import TCLStudent

SIZES = {"embed_dim": 24, "depth": 3, "num_heads": 2}


def student(name: str = "vit_tiny_patch16_224", frozen: bool = False, **overrides) -> TCLStudent:
    torch.manual_seed(0)
    image = ImageEncoderConfig(name, image_size=32, overrides={**SIZES, **overrides} if "vit" in name else {})
    encoders = build_encoders(ModelConfig(image, TextEncoderConfig(overrides=BERT), embed_dim=8), VOCABULARY, 0)
    with torch.no_grad():
        for parameter in encoders.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    if frozen:
        encoders.image_encoder.freeze_backbone()
    return TCLStudent(encoders, ObjectiveConfig()).eval()


@pytest.mark.parametrize("overrides", [{}, {"reg_tokens": 3}, {"global_pool": "avg", "fc_norm": True}])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_rest_of_the_vit_is_that_of_a_whole_pass(overrides, frozen):
    encoder = student(frozen=frozen, **overrides).encoders.image_encoder
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    fused = [block.attn.fused_attn for block in encoder.layers]
    for block in range(3):
        found, probabilities = run_from(encoder, run_to(encoder, image, block), block)
        torch.testing.assert_close(found, encoder(image)[:, 0])
        tokens = 4 + 1 + overrides.get("reg_tokens", 0)
        assert probabilities.shape == (2, 2, tokens, tokens)
        torch.testing.assert_close(probabilities.sum(dim=-1), torch.ones(2, 2, tokens))
    assert [block.attn.fused_attn for block in encoder.layers] == fused
    assert not any(block.attn.attn_drop._forward_hooks or block._forward_pre_hooks for block in encoder.layers)


@torch.no_grad()
def test_similarity_maps_equal_finite_differences():
    """Of what [CLS] looks at in the second of three blocks, two texts about the first image and one about the other."""
    model = student().double()
    encoders, block, step = model.encoders, 1, 1e-6
    generator = torch.Generator().manual_seed(2)
    image = torch.randn(2, 3, 32, 32, generator=generator, dtype=torch.float64)
    ids = torch.randint(5, VOCABULARY, (3, 4), generator=generator)
    mask, image_of = torch.ones_like(ids), torch.tensor([0, 0, 1])
    found = similarity_maps(encoders, model.temperature, image, ids, mask, image_of, block)

    encoder, attention = encoders.image_encoder, encoders.image_encoder.layers[block].attn
    texts = F.normalize(encoders.text_proj(encoders.text_encoder(ids, mask)[:, 0]), dim=-1)

    def similarity(row: int, change: torch.Tensor) -> tuple[float, torch.Tensor]:
        seen = {}

        def add(module, arguments, output):
            seen["probabilities"] = output[0]
            return output + change

        other = copy.deepcopy(encoder)
        other.layers[block].attn.fused_attn = False
        other.layers[block].attn.attn_drop.register_forward_hook(add)
        token = other(image[image_of[row]][None])[:, 0]
        cosine = float(F.normalize(encoders.vision_proj(token), dim=-1)[0] @ texts[row])
        return cosine / float(model.temperature), seen["probabilities"]

    for row in range(3):
        expected = torch.zeros(4, dtype=torch.float64)
        for head in range(attention.num_heads):
            for patch in range(4):
                change = torch.zeros(1, attention.num_heads, 5, 5, dtype=torch.float64)
                change[0, head, 0, 1 + patch] = step
                (above, seen), (below, _) = similarity(row, change), similarity(row, -change)
                slope = (above - below) / (2 * step)
                expected[patch] += max(slope, 0) * seen[head, 0, 1 + patch] / attention.num_heads
        assert (expected > 0).any()
        torch.testing.assert_close(found[row], expected, rtol=1e-3, atol=1e-6)


def test_layers_are_the_published_ones_or_their_like():
    model = student()
    assert watched(model, "itm", None).layer == 0 and watched(model, "itc", None).layer == 2
    assert watched(model, "itc", 1).layer == 1
    for mode, layer, said in (("itm", 2, "the fusion encoder has 2"), ("itc", -1, "the ViT has 3")):
        with pytest.raises(InputError, match=rf"^eval\.layer: {layer}, but {said}; accepted: 0 to [12]$"):
            watched(model, mode, layer, "eval.")


@pytest.mark.parametrize("name", ["resnet10t", "vit_base_patch16_siglip_224"])
def test_itc_needs_a_plain_vit_with_cls(name):
    overrides = {} if name == "resnet10t" else SIZES
    image = ImageEncoderConfig(name, image_size=32, overrides=overrides)
    encoders = build_encoders(ModelConfig(image, TextEncoderConfig(overrides=BERT), embed_dim=8), VOCABULARY, 0)
    model = TCLStudent(encoders, ObjectiveConfig())
    assert watched(model, "itm", None).layer == 0
    with pytest.raises(InputError, match=r"^eval\.mode: 'itc' needs a plain ViT with a \[CLS\] token"):
        watched(model, "itc", None, "eval.")


def test_itm_needs_a_fusion_encoder():
    model = student()
    model.encoders.fusion_encoder = None
    with pytest.raises(
        InputError,
        match=r"^mode: 'itm' needs a fusion encoder that matches, which this model has not; accepted: 'itc'$",
    ):
        watched(model, "itm", None)
    with pytest.raises(InputError, match=r"^mode: 'both' is not possible; accepted: itm, itc$"):
        watched(model, "both", None)
