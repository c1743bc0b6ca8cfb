"""Image encoders of every kind: their tokens against timm's own, what is trained, frozen, left out, and refused."""

import copy
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file
from tiny import MODEL, random_batch, tiny_models
from torch import nn

from tcl.config.model import ImageEncoderConfig, ModelConfig, check_model
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.encoders.build_image_encoder import build_image_encoder
from tcl.encoders.grid_encoder import GridEncoder
from tcl.encoders.image_encoder import ImageEncoder
from tcl.encoders.product_attention import ProductAttention
from tcl.encoders.vit_encoder import ViTEncoder
from tcl.errors import InputError
from tcl.models.activation_memory import image_layers
from tcl.models.encoders import build_encoders
from tcl.training.full_weights import full_weights

TINY = {"embed_dim": 24, "depth": 2, "num_heads": 2}
WITH_CLS = {  # their sizes in pixels: two patches a side
    "vit_tiny_patch16_224": 32,
    "vit_small_patch14_reg4_dinov2": 28,  # registers
    "vit_small_patch16_dinov3": 32,  # registers and rotary positions
    "eva02_tiny_patch14_224": 28,  # rotary positions
    "vit_small_patch16_rope_mixed_224": 32,  # learned rotary positions
    "beit_base_patch16_224": 32,  # relative positions
    "cait_xxs24_224": 32,  # [CLS] joins late
}
WITHOUT_CLS = {
    "vit_base_patch16_siglip_224": 32,  # attention pooling
    "vit_base_patch16_siglip_gap_224": 32,  # mean behind the final norm
    "vit_medium_patch16_gap_256": 32,  # mean before it
    "vit_medium_patch16_reg4_gap_256": 32,
    "vit_medium_patch16_rope_reg1_gap_256": 32,
    "vit_relpos_small_patch16_224": 32,
}
GRIDS = {
    "swin_tiny_patch4_window7_224": (32, {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]}, (4, 4)),
    "swinv2_tiny_window8_256": (64, {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2]}, (8, 8)),
    "convnext_atto": (64, {"depths": [1, 1, 1, 1], "dims": [4, 8, 12, 16]}, (2, 2)),
    "mobilenetv2_035": (96, {}, (3, 3)),
    "resnet10t": (64, {"channels": [4, 4, 8, 8]}, (2, 2)),
    "xcit_nano_12_p16_224": (32, {"depth": 1}, (2, 2)),  # a sequence with [CLS]
}
UNUSED = {"convnext_atto": ["backbone.head.norm.weight", "backbone.head.norm.bias"]}
VITS = WITH_CLS | WITHOUT_CLS


def built(name: str, **options) -> ImageEncoder:
    """Of random weights so large that attention has its say, in eval mode."""
    torch.manual_seed(1)
    size, overrides = (GRIDS[name][:2]) if name in GRIDS else (VITS[name], TINY)
    encoder = build_image_encoder(ImageEncoderConfig(name, image_size=size, overrides=overrides, **options))
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.3)
    return encoder.eval()


def images(name: str, count: int = 2) -> torch.Tensor:
    size = GRIDS[name][0] if name in GRIDS else VITS[name]
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def of_timm(encoder: ImageEncoder, name: str, **options) -> nn.Module:
    """timm's own network with the same weights."""
    size, overrides = (GRIDS[name][:2]) if name in GRIDS else (VITS[name], TINY)
    sized = {} if name.startswith(("convnext", "mobilenet", "resnet")) else {"img_size": size}
    network = timm.create_model(name, num_classes=0, **sized, **overrides, **options).eval()
    network.load_state_dict(encoder.backbone.state_dict())
    return network


@pytest.mark.parametrize("name", WITH_CLS)
@torch.no_grad()
def test_with_cls_the_tokens_are_timms_without_registers(name):
    encoder, image = built(name), images(name)
    vit = of_timm(encoder, name, global_pool="token")
    features = vit.forward_features(image)
    tokens = encoder(image)
    assert isinstance(encoder, ViTEncoder) and tokens.shape == (2, 5, 24) and encoder.grid == (2, 2)
    torch.testing.assert_close(tokens[:, 0], vit.forward_head(features, pre_logits=True))
    torch.testing.assert_close(tokens[:, 1:], features[:, -4:])


def test_a_vit_with_cls_starts_as_timm_makes_it():
    torch.manual_seed(4)
    encoder = build_image_encoder(ImageEncoderConfig("vit_tiny_patch16_224", image_size=32, overrides=TINY))
    after = torch.rand(1)
    torch.manual_seed(4)
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0, **TINY)
    assert after.equal(torch.rand(1))
    weights = {f"vit.{name}": tensor for name, tensor in vit.state_dict().items()}
    assert encoder.state_dict().keys() == weights.keys()
    assert all(tensor.equal(weights[name]) for name, tensor in encoder.state_dict().items())


@torch.no_grad()
def test_a_norm_behind_the_pooling_is_the_final_norm_of_a_vit_with_cls_too():
    config = ImageEncoderConfig("vit_relpos_base_patch16_clsgap_224", image_size=32, overrides=TINY)
    encoder, image = build_image_encoder(config).eval(), torch.randn(2, 3, 32, 32)
    nn.init.normal_(encoder.vit.fc_norm.weight)
    features = encoder.vit.forward_features(image)
    torch.testing.assert_close(encoder(image), encoder.vit.fc_norm(features))
    assert all(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.parametrize("name", WITHOUT_CLS)
@torch.no_grad()
def test_without_cls_the_global_token_is_what_timm_pools(name):
    encoder, image = built(name), images(name)
    vit = of_timm(encoder, name)
    features = vit.forward_features(image)
    tokens = encoder(image)
    assert isinstance(encoder, ViTEncoder) and tokens.shape == (2, 5, 24) and encoder.grid == (2, 2)
    torch.testing.assert_close(tokens[:, 0], vit.forward_head(features, pre_logits=True))
    torch.testing.assert_close(tokens[:, 1:], vit.fc_norm(features[:, -4:]))


@torch.no_grad()
def test_without_cls_and_pooling_the_global_token_is_the_mean():
    overrides = TINY | {"global_pool": ""}
    config = ImageEncoderConfig("vit_base_patch16_siglip_gap_224", image_size=32, overrides=overrides)
    tokens = build_image_encoder(config).eval()(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(tokens[:, 0], tokens[:, 1:].mean(dim=1))


@pytest.mark.parametrize("width", [None, 10])
@pytest.mark.parametrize("name", GRIDS)
@torch.no_grad()
def test_a_grid_is_projected_place_by_place(name, width):
    encoder, image = built(name, width=width), images(name)
    features = of_timm(encoder, name).forward_features(image)
    rows, columns = GRIDS[name][2]
    count = encoder.backbone.num_features
    if name.startswith("xcit"):
        features = features[:, 1:].unflatten(1, (rows, columns))
    elif features.shape[1] == count:
        features = features.permute(0, 2, 3, 1)
    tokens = encoder(image)
    assert isinstance(encoder, GridEncoder) and encoder.grid == (rows, columns)
    assert encoder.width == (width or count) and tokens.shape == (2, 1 + rows * columns, encoder.width)
    positions = encoder.positions[0].unflatten(0, (rows, columns))
    assert positions.std() > 0
    for row in range(rows):
        for column in range(columns):
            expected = encoder.projection(features[:, row, column]) + positions[row, column]
            torch.testing.assert_close(tokens[:, 1 + row * columns + column], expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(tokens[:, 0], tokens[:, 1:].mean(dim=1))


@pytest.mark.parametrize("name", [*VITS, *GRIDS])
def test_every_trained_parameter_gets_a_gradient_and_no_other_is_trained(name):
    encoder = built(name).train()
    encoder(images(name)).square().mean().backward()
    without = [name for name, parameter in encoder.named_parameters() if parameter.grad is None]
    assert without == [name for name, parameter in encoder.named_parameters() if not parameter.requires_grad]
    assert without == UNUSED.get(name, [])


@pytest.mark.parametrize("name", ["vit_base_patch16_siglip_224", "resnet10t", "swin_tiny_patch4_window7_224"])
def test_layers_are_computed_again_with_the_same_gradients(name):
    plain = built(name)
    again = copy.deepcopy(plain)
    again.configure_layers(activation_checkpointing=True, fused_attention=False)
    kinds = (module for module in again.modules() if not isinstance(module, ProductAttention))
    assert not any(getattr(module, "fused_attn", False) for module in kinds)
    for encoder in (plain, again):
        encoder(images(name)).square().mean().backward()
    for one, other in zip(plain.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_layers_are_blocks_or_stages():
    vit, swin, resnet = (built(name) for name in ("beit_base_patch16_224", "swin_tiny_patch4_window7_224", "resnet10t"))
    assert vit.layers == list(vit.vit.blocks) and swin.layers == list(swin.backbone.layers)
    assert resnet.layers[-4:] == [getattr(resnet.backbone, f"layer{i}") for i in (1, 2, 3, 4)]


def test_layers_that_timm_cannot_compute_again_are_refused():
    encoder = build_image_encoder(ImageEncoderConfig("vgg11", image_size=32))
    with pytest.raises(InputError, match=r"^train\.activation_checkpointing: True is not possible with the VGG"):
        encoder.configure_layers(activation_checkpointing=True, fused_attention=True)


def test_pixels_are_normalised():
    encoder = built("resnet10t", mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 0.25))
    pixels = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    mean, std = torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1), torch.tensor([0.5, 1.0, 0.25]).view(3, 1, 1)
    torch.testing.assert_close(encoder.prepare(pixels), (pixels / 255 - mean) / std)
    torch.testing.assert_close(encoder.bfloat16().prepare(pixels), (pixels / 255 - mean) / std)


@pytest.mark.parametrize("name", ["resnet10t", "vit_base_patch16_siglip_224"])
def test_a_frozen_backbone_stays_as_it_is(name):
    """Also in copies: batch norms in eval mode, no dropout, no gradients; a grid's projection is trained."""
    torch.manual_seed(0)
    size, overrides = GRIDS[name][:2] if name in GRIDS else (VITS[name], TINY)
    overrides = overrides | {"drop_path_rate": 0.9}
    first = build_image_encoder(ImageEncoderConfig(name, image_size=size, overrides=overrides, frozen=True))
    for encoder in (first, copy.deepcopy(first)):
        before = copy.deepcopy(encoder.backbone.state_dict())
        encoder.eval()
        expected = encoder(images(name)).detach()
        encoder.train()
        assert encoder.training and not any(module.training for module in encoder.backbone.modules())
        tokens = encoder(images(name))
        assert tokens.equal(expected)
        assert encoder.frozen_parts == (encoder.backbone,)
        trained = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
        assert trained == (["positions", "projection.weight", "projection.bias"] if name in GRIDS else [])
        assert tokens.requires_grad == (name in GRIDS)
        if name in GRIDS:
            tokens.square().mean().backward()
            assert all(encoder.get_parameter(one).grad is not None for one in trained)
        assert all(tensor.equal(before[key]) for key, tensor in encoder.backbone.state_dict().items())
    assert built("resnet10t").frozen_parts == ()


def test_the_batch_norms_of_a_trained_backbone_follow_its_images():
    encoder = built("resnet10t").train()
    before = encoder.backbone.layer1[0].bn1.running_mean.clone()
    encoder(images("resnet10t"))
    assert not encoder.backbone.layer1[0].bn1.running_mean.equal(before)


DROPPING = ["vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2", "eva02_tiny_patch14_224", *list(WITHOUT_CLS)[:5]]


def larger(name: str) -> tuple[ImageEncoder, torch.Tensor]:
    """4 x 4 patches."""
    size = 2 * VITS[name]
    torch.manual_seed(3)
    encoder = build_image_encoder(ImageEncoderConfig(name, image_size=size, overrides=TINY))
    return encoder, torch.randn(3, 3, size, size)


@pytest.mark.parametrize("name", DROPPING)
@torch.no_grad()
def test_some_patches_are_left_out_where_it_is_asked_for(name):
    """Without blocks each patch stands for itself: those that are left are as in the whole grid."""
    encoder, image = larger(name)
    encoder.vit.blocks = nn.Sequential() if isinstance(encoder.vit.blocks, nn.Sequential) else nn.ModuleList()
    whole, some = encoder(image), encoder(image, patch_drop=0.6)
    assert whole.shape == (3, 17, 24) and some.shape == (3, 7, 24)
    chosen = [
        [next(i for i, patch in enumerate(whole[b, 1:]) if torch.allclose(patch, left)) for left in some[b, 1:]]
        for b in range(3)
    ]
    assert all(len(set(row)) == 6 for row in chosen) and len({tuple(sorted(row)) for row in chosen}) > 1
    assert encoder(image).equal(whole)
    if name in WITH_CLS:
        torch.testing.assert_close(some[:, 0], whole[:, 0])
    assert encoder(image, patch_drop=0.99).shape == (3, 2, 24)


@pytest.mark.parametrize("name", [*DROPPING, "vit_small_patch16_dinov3", "vit_small_patch16_rope_mixed_224"])
@torch.no_grad()
def test_positions_follow_the_patches_that_are_left(name):
    """A share so small that none is left out only mixes their order."""
    encoder, image = larger(name)
    encoder.eval()
    for parameter in encoder.parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=0.2)
    whole, mixed = encoder(image), encoder(image, patch_drop=1e-20)
    torch.testing.assert_close(mixed[:, 0], whole[:, 0], rtol=1e-3, atol=1e-4)
    assert not torch.allclose(mixed, whole, atol=1e-2)
    for b in range(3):
        distances = torch.cdist(mixed[b, 1:], whole[b, 1:])
        assert (
            distances.argmin(dim=1).sort().values.tolist() == list(range(16))
            and distances.min(dim=1).values.max() < 1e-3
        )


def test_what_is_left_out_is_left_out_of_a_frozen_vit_and_of_one_that_is_computed_again():
    config = ImageEncoderConfig("vit_tiny_patch16_224", image_size=64, overrides=TINY, patch_drop=0.5)
    encoder = build_image_encoder(config)
    encoder.configure_layers(activation_checkpointing=True, fused_attention=True)
    tokens = encoder(torch.randn(2, 3, 64, 64), patch_drop=encoder.patch_drop)
    tokens.square().mean().backward()
    assert tokens.shape[1] == 9 and all(parameter.grad is not None for parameter in encoder.parameters())
    encoder.freeze_backbone()
    assert encoder.train()(torch.randn(2, 3, 64, 64), patch_drop=0.5).shape[1] == 9


@pytest.mark.parametrize("name", ["beit_base_patch16_224", "vit_relpos_small_patch16_224", "resnet10t"])
def test_what_needs_all_its_patches_leaves_none_out(name):
    with pytest.raises(InputError, match=r"^model\.image\.patch_drop: 0\.5 is not possible with a \w+, which needs"):
        built(name, patch_drop=0.5)
    with pytest.raises(InputError, match=r"^model\.image\.patch_drop: 0\.5 is not possible with a \w+, which needs"):
        built(name)(images(name), patch_drop=0.5)


def test_position_embeddings_start_as_spread_as_is_asked():
    for name, options in (
        ("vit_tiny_patch16_224", {"overrides": TINY}),
        ("resnet10t", {"overrides": {"channels": [4, 4, 8, 8]}, "width": 96}),
    ):
        config = ImageEncoderConfig(name, image_size=128, **options)
        plain, spread = (build_image_encoder(replace(config, position_std=std)).positions for std in (None, 0.5))
        assert plain.std().item() == pytest.approx(0.02, rel=0.2)
        assert spread.std().item() == pytest.approx(0.5, rel=0.1) and spread.requires_grad


def test_positions_that_are_not_there_cannot_be_spread():
    config = ImageEncoderConfig("vit_small_patch16_rope_224", image_size=32, overrides=TINY, position_std=0.5)
    said = r"^model\.image\.position_std: 0\.5 is not possible with 'vit_small\w+', which learns no absolute positions"
    with pytest.raises(InputError, match=said):
        build_image_encoder(config)


def test_positions_of_weights_are_not_spread(tmp_path):
    config = ImageEncoderConfig("vit_tiny_patch16_224", image_size=32, overrides=TINY)
    save_file(build_image_encoder(config).vit.state_dict(), tmp_path / "vit.safetensors")
    spread = replace(config, pretrained=str(tmp_path / "vit.safetensors"), position_std=0.5)
    with pytest.raises(InputError, match=r"^model\.image\.position_std: 0\.5 .* whose positions are in its weights"):
        build_image_encoder(spread)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ImageEncoderConfig("no_such_model"), r"timm cannot build 'no_such_model'.*Unknown model"),
        (ImageEncoderConfig("resnet10t", overrides={"depht": 2}), r"timm cannot build 'resnet10t'.*depht"),
        (ImageEncoderConfig("convit_tiny", overrides={"depth": 2}), r"gives 256 tokens for an image, not 1 \+ 16 x 16"),
        (ImageEncoderConfig("pit_ti_224", image_size=224), r"name: the features of 'pit_ti_224' are no grid"),
        (ImageEncoderConfig("coat_tiny", image_size=224), r"name: the features of 'coat_tiny' are no grid .*\(list\)"),
        (ImageEncoderConfig("levit_128s", image_size=50), r"timm cannot build 'levit_128s' with \{'img_size': 50"),
        (ImageEncoderConfig("vit_tiny_patch16_224", width=8), r"width: 8 is not possible with 'vit_tiny_patch16_224'"),
        (ImageEncoderConfig("resnet10t", overrides={"channels": [2**22] * 4}), r"takes more than .* GiB"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(config, message):
    with pytest.raises(InputError, match=rf"^model\.image[.:].*{message}|^model\.image\.{message}") as raised:
        build_image_encoder(config)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, r"^model\.image\.width: 0 .*>= 1"),
        ({"patch_drop": 1.0}, r"^model\.image\.patch_drop: 1\.0 .*0 <= p < 1"),
        ({"position_std": 0}, r"^model\.image\.position_std: 0 .*> 0"),
        ({"position_std": float("nan")}, r"^model\.image\.position_std: nan .*> 0"),
        ({"patch_drop": -0.1}, r"^model\.image\.patch_drop: -0\.1 .*0 <= p < 1"),
        ({"overrides": {"patch_drop_rate": 0.5}}, r"patch_drop_rate: 0\.5 .*model\.image\.patch_drop"),
        ({"name": "swin_tiny_patch4_window7_224", "image_size": 34}, r"34 is not a multiple of the patch size 4"),
    ],
)
def test_values_that_are_not_possible(options, message):
    with pytest.raises(InputError, match=message):
        check_model(ModelConfig(image=ImageEncoderConfig(**options)))


SIGLIP = ImageEncoderConfig("vit_base_patch16_siglip_224", image_size=32, overrides=TINY)
RESNET = ImageEncoderConfig("resnet10t", image_size=32, overrides={"channels": [4, 4, 8, 8]}, width=12)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("image", [SIGLIP, RESNET])
@pytest.mark.parametrize("only", ["", "lmi", "mlm"])
def test_a_student_takes_a_step(image, frozen, only):
    """With all losses, and with each alone: no trained parameter is without a gradient, for which DDP would wait."""
    image = ImageEncoderConfig(**{**vars(image), "frozen": frozen})
    weights = {f"{name}_weight": float(only in ("", name)) for name in ("cma", "imc", "lmi", "itm", "mlm")}
    objective = ObjectiveConfig(queue_size=12, **weights)
    student, teacher = tiny_models(objective, ModelConfig(image, MODEL.text, embed_dim=8, lmi_regions=2))
    trained = {name: parameter for name, parameter in student.named_parameters() if parameter.requires_grad}
    before = copy.deepcopy(student.state_dict())
    batch = random_batch(4)
    student(batch, teacher(batch, {"temperature": student.temperature.detach()}, 0.4)).total.backward()
    assert [name for name, parameter in trained.items() if parameter.grad is None] == []
    torch.optim.AdamW(trained.values(), lr=0.1).step()
    teacher.update(full_weights(student.encoders))
    changed = {name for name, tensor in student.state_dict().items() if not tensor.equal(before[name])}
    backbone = {name for name in before if "image_encoder.backbone." in name or "image_encoder.vit." in name}
    assert bool(changed & backbone) == (not frozen)
    assert any("image_encoder" in name for name in changed) == (not frozen or image.name == "resnet10t")


def test_encoders_of_all_kinds_fit_the_fusion_encoder():
    for image in (SIGLIP, RESNET):
        encoders = build_encoders(ModelConfig(image, MODEL.text, embed_dim=8), vocab_size=50, pad_id=0)
        tokens = encoders.image_encoder(torch.randn(2, 3, 32, 32))
        ids = torch.randint(5, 50, (2, 6))
        mask = torch.ones(2, 6, dtype=torch.long)
        fused = encoders.fusion_encoder(
            encoders.text_encoder(ids, mask), mask, encoders.fusion_encoder.image_keys_values(tokens)
        )
        assert fused.shape == (2, 6, 16)


@pytest.mark.parametrize(("name", "overrides"), [("resnet10t", {}), ("convnext_atto", {"depths": [1, 1, 1, 1]})])
def test_what_a_grid_keeps_of_an_image_is_measured(name, overrides):
    """Against the tensors that a real pass over more images keeps, each storage once, weights left out."""
    encoder = build_image_encoder(ImageEncoderConfig(name=name, image_size=64, overrides=overrides))
    totals = []
    for images in (2, 5):
        kept = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, kept=kept: (kept.setdefault(t.untyped_storage().data_ptr(), t), t)[1], lambda t: t
        ):
            encoder.eval()(torch.randn(images, 3, 64, 64)).sum().backward()
        totals.append(sum(tensor.untyped_storage().nbytes() // tensor.element_size() for tensor in kept.values()))
    # An image that is given needs no gradient, but the first layer keeps it.
    assert encoder.kept_elements == pytest.approx((totals[1] - totals[0]) / 3, rel=0.02)
    frozen = build_image_encoder(ImageEncoderConfig(name=name, image_size=64, overrides=overrides, frozen=True))
    assert image_layers(encoder, 4) == [(1, 4 * encoder.kept_elements, 1)] and image_layers(frozen, 4) == []


def test_a_student_leaves_patches_out_while_it_trains_and_the_teacher_none():
    image = replace(MODEL.image, patch_drop=0.5)
    student, teacher = tiny_models(model=replace(MODEL, image=image))
    seen = {"student": [], "teacher": []}
    for name, module in (("student", student), ("teacher", teacher)):
        block = module.encoders.image_encoder.vit.blocks[0]
        block.register_forward_hook(lambda _, inputs, __, name=name: seen[name].append(inputs[0].shape[1]))
    batch = random_batch(3)
    losses = student(batch, teacher(batch, {"temperature": student.temperature.detach()}, 0.4))
    losses.total.backward()
    assert seen == {"student": [1 + 2], "teacher": [1 + 4]} and torch.isfinite(losses.total)
    assert [name for name, p in student.named_parameters() if p.requires_grad and p.grad is None] == []
    student.eval()(batch, teacher(batch, {"temperature": student.temperature.detach()}, 0.0))
    assert seen["student"][-1] == 1 + 4
