"""Few tokens of an image for the fusion encoder: the module, its losses, and what is to stay as it was."""

from dataclasses import replace

import pytest
import torch
from accelerate.state import AcceleratorState
from compress_step import COMPRESSED, STEPS, run
from launching import launch
from tiny import MODEL, VOCABULARY, random_batch, tiny_models
from torch.nn import functional as F

from tcl.config.compression_objective import CompressionObjectiveConfig
from tcl.config.model import FusionConfig, check_model
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.config.train import TrainConfig
from tcl.errors import InputError
from tcl.losses.distil_itm import matching_distillation
from tcl.losses.itm import LEFT_OUT
from tcl.models.compress_tokens import TokenCompression
from tcl.models.encoders import build_encoders
from tcl.models.no_teacher import NoTargets
from tcl.objectives.compression import COMPRESSION, CompressionStudent
from tcl.objectives.hard_negatives import Negatives
from tcl.objectives.pair_objective import PairSizes
from tcl.objectives.tcl import OBJECTIVE as TCL
from tcl.objectives.tcl import build_student

OBJECTIVE = ObjectiveConfig(queue_size=12, distil_itm_weight=0.5)


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def spread(module: torch.nn.Module) -> torch.nn.Module:
    """Weights and biases that are far from where they start."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module


def norm(x, layer):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + layer.eps).sqrt() * layer.weight + layer.bias


def by_hand(module: TokenCompression, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of one image [N, width], head by head -> few tokens, and where they look, mean over the heads."""
    attention, forward = module.attention, module.feed_forward
    query, key, value = (
        F.linear(x, linear.weight, linear.bias)
        for x, linear in (
            (module.queries, attention.query),
            (tokens, attention.key),
            (tokens, attention.value),
        )
    )
    size, contexts, looks = query.shape[1] // attention.heads, [], []
    for h in range(attention.heads):
        part = slice(h * size, (h + 1) * size)
        weights = torch.exp(query[:, part] @ key[:, part].T / size**0.5)
        looks.append(weights / weights.sum(1, keepdim=True))
        contexts.append(looks[-1] @ value[:, part])
    out = F.linear(torch.cat(contexts, 1), attention.out.weight, attention.out.bias)
    x = norm(module.queries + out, attention.norm)
    hidden = F.gelu(F.linear(x, forward.up.weight, forward.up.bias))
    x = norm(x + F.linear(hidden, forward.down.weight, forward.down.bias), forward.norm)
    return x, torch.stack(looks).mean(0)


@torch.no_grad()
@pytest.mark.parametrize("width", [24, 128])
def test_the_module_is_its_formula(width):
    module = spread(TokenCompression(3, width)).double()
    images = torch.randn(2, 5, width, dtype=torch.float64)
    found, looks = module(images), module.looks(images)
    assert module.attention.heads == {24: 1, 128: 2}[width] and found.shape == (2, 3, width)
    for image in range(2):
        right, seen = by_hand(module, images[image])
        torch.testing.assert_close(found[image], right)
        torch.testing.assert_close(looks[image], seen)


@torch.no_grad()
def test_it_starts_near_a_mean_of_the_tokens():
    torch.manual_seed(0)
    few = TokenCompression(4, 64)(same := F.layer_norm(torch.randn(1, 1, 64), (64,)).expand(1, 9, 64))
    assert F.cosine_similarity(few, same[:, :4], dim=-1).min() > 0.98


@torch.no_grad()
def test_the_fusion_encoder_sees_the_few_tokens_alone():
    student, _ = tiny_models(model=COMPRESSED)
    fusion, batch = student.eval().encoders.fusion_encoder, random_batch(3)
    images = student.encoders.image_encoder(batch.inputs["image"].view)
    assert images.shape[1] == 5 and fusion.compress(images).shape == (3, 2, 24)
    text = student.encoders.text_encoder(batch.inputs["text"].ids, batch.inputs["text"].mask)
    keys_values = fusion.image_keys_values(images)
    assert keys_values[0].keys.shape[2] == 2
    found = fusion(text, batch.inputs["text"].mask, keys_values)
    few = fusion.compression(images)
    fusion.compression = None
    torch.testing.assert_close(found, fusion(text, batch.inputs["text"].mask, fusion.image_keys_values(few)))


def test_contrastive_losses_are_untouched():
    """The same weights with it and without: all but ITM and MLM are equal, to the bit."""
    seen = []
    for model in (MODEL, COMPRESSED):
        student, teacher = tiny_models(model=model)
        batch = random_batch(4)
        targets = teacher(batch, {"temperature": student.temperature.detach()}, 0.4)
        torch.manual_seed(3)
        seen.append(student(batch, targets).each)
    plain, compressed = seen
    for name in ("i2t", "t2i", "imc_image", "imc_text", "lmi_image", "lmi_text"):
        assert plain[name].equal(compressed[name])
    assert not plain["itm"].equal(compressed["itm"]) and not plain["mlm"].equal(compressed["mlm"])


def test_every_weight_learns_and_the_teacher_follows():
    student, teacher = tiny_models(OBJECTIVE, COMPRESSED)
    spread(student.encoders.fusion_encoder.compression)
    batch = random_batch(4)
    losses = student(batch, teacher(batch, {"temperature": student.temperature.detach()}, 0.4))
    losses.total.backward()
    assert [name for name, p in student.named_parameters() if p.grad is None or not p.grad.any()] in (
        [],
        ["encoders.fusion_encoder.compression.attention.key.bias"],  # it moves all logits of a query alike
    )
    assert any("compression.queries" in name for name in teacher.state_dict())


def test_distillation_is_its_formula():
    logits, teacher = torch.randn(4, 2, requires_grad=True), torch.randn(4, 2)
    labels = torch.tensor([1, 0, LEFT_OUT, 0])
    expected, rows = 0.0, (0, 1, 3)
    for row in rows:
        q, p = (torch.exp(x[row]) / torch.exp(x[row]).sum() for x in (logits, teacher))
        expected = expected + sum(p[c] * (torch.log(p[c]) - torch.log(q[c])) for c in (0, 1)) / len(rows)
    found = matching_distillation(logits, teacher, labels)
    torch.testing.assert_close(found, expected)
    gradient = torch.autograd.grad(found, logits)[0]
    right = (logits.softmax(1) - teacher.softmax(1)) / len(rows)
    torch.testing.assert_close(gradient, right * (labels != LEFT_OUT)[:, None])
    assert matching_distillation(teacher, teacher, labels) == 0
    assert matching_distillation(logits, teacher, torch.full((4,), LEFT_OUT)) == 0


def test_the_teacher_is_the_same_student_without_its_compression():
    student, teacher = tiny_models(OBJECTIVE, COMPRESSED)
    batch, ones = random_batch(4), torch.ones(4, dtype=torch.bool)
    negatives = Negatives(torch.tensor([1, 2, 3, 0]), torch.tensor([2, 3, 0, 1]), ones, ones)
    targets = teacher(batch, {"temperature": student.temperature.detach()}, 0.0)
    losses = student(batch, targets, negatives)
    encoders, texts = student.encoders, batch.inputs["text"]
    with torch.no_grad():
        images = encoders.image_encoder(batch.inputs["image"].view)
        tokens = encoders.text_encoder(texts.ids, texts.mask)
        own = torch.arange(4)
        pairs = [(own, own), (negatives.images, own), (own, negatives.texts)]
        logits = []
        for see in (lambda x: x, encoders.fusion_encoder.compression):
            fused = [
                encoders.fusion_encoder(tokens[t], texts.mask[t], encoders.fusion_encoder.keys_values(see(images[i])))
                for i, t in pairs
            ]
            logits.append(student.itm_head(torch.cat([one[:, 0] for one in fused])))
        q, p = (x.softmax(1) for x in (logits[1], logits[0]))
        torch.testing.assert_close(losses.each["distil_itm"], (p * (p / q).log()).sum(1).mean())
    plain, _ = tiny_models(replace(OBJECTIVE, distil_itm_weight=0.0), COMPRESSED)
    without = plain(batch, targets, negatives)
    torch.testing.assert_close(losses.total - 0.5 * losses.each["distil_itm"], without.total)
    alone, _ = tiny_models(ObjectiveConfig(itm_weight=0, mlm_weight=0, distil_itm_weight=1, queue_size=12), COMPRESSED)
    only = alone(batch, targets, negatives).each
    assert "itm" not in only and only["distil_itm"].equal(losses.each["distil_itm"])


def test_sizes_that_cannot_be_are_refused():
    for value in (0, -1):
        with pytest.raises(
            InputError, match=rf"^model\.fusion\.image_tokens: {value} is not possible; accepted: a num"
        ):
            check_model(replace(MODEL, fusion=FusionConfig(image_tokens=value)))
    build_encoders(replace(MODEL, fusion=FusionConfig(image_tokens=5)), VOCABULARY, 0)
    with pytest.raises(InputError, match=r"^model\.fusion\.image_tokens: 6 is not possible; accepted: 1 to 5, which "):
        build_encoders(replace(MODEL, fusion=FusionConfig(image_tokens=6)), VOCABULARY, 0)
    with pytest.raises(
        InputError, match=r"^objective\.distil_itm_weight: 0\.5 is not possible; accepted: 0, unless mo"
    ):
        build_student(MODEL, OBJECTIVE, None)
    none = CompressionObjectiveConfig(itm_weight=0, distil_itm_weight=0, mlm_weight=0)
    with pytest.raises(InputError, match=r"^objective: all of itm_weight, distil_itm_weight, mlm_weight are 0"):
        COMPRESSION.check(none, TrainConfig())
    with pytest.raises(InputError, match=r"^train\.batch_size: 1 with objective\.distil_itm_weight 1\.0; ITM draws"):
        COMPRESSION.check(CompressionObjectiveConfig(itm_weight=0), TrainConfig(batch_size=1))


def test_only_the_compression_learns_and_all_else_is_in_eval_mode():
    student = CompressionStudent(build_encoders(COMPRESSED, VOCABULARY, 0), CompressionObjectiveConfig())
    for mode in (True, False):
        student.train(mode)
        trains = {name for name, module in student.named_modules() if module.training}
        own = {name for name in trains if "compression" in name}
        assert trains - own == ({""} if mode else set()) and bool(own) == mode
    batch = random_batch(4)
    student.train()
    student(batch, NoTargets()).total.backward()
    names = {name for name, p in student.named_parameters() if p.grad is not None}
    assert names == {name for name, _ in student.named_parameters() if ".compression." in name}


def test_memory_is_less_with_fewer_tokens_and_with_frozen_encoders():
    sizes = PairSizes(8, 7, 2, 1, checkpointing=False, bf16=False)
    objective = CompressionObjectiveConfig()
    large = replace(MODEL, image=replace(MODEL.image, image_size=224))  # 197 tokens
    kept = []
    for count in (64, 8):
        student, _ = tiny_models(OBJECTIVE, replace(large, fusion=FusionConfig(image_tokens=count)))
        alone = CompressionStudent(student.encoders, objective)
        kept.append(
            (TCL.activation_bytes(student, OBJECTIVE, sizes), COMPRESSION.activation_bytes(alone, objective, sizes))
        )
    assert kept[0][0] > kept[1][0] > kept[1][1] and kept[0][1] > kept[1][1]
    # Keys and values of 56 tokens fewer in two layers of width 16, of 16 images; and what the compression keeps.
    fewer = 4 * (2 * 2 * 16 * 56 * 16 + 8 * 56 * 24 * 17)
    assert kept[0][1] - kept[1][1] == fewer


def test_two_processes_learn_as_one_that_accumulates(tmp_path):
    done = launch("tests/compress_step.py", str(tmp_path))
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    alone = run(tmp_path / "alone", halves=2)
    torch.manual_seed(0)
    start = CompressionStudent(build_encoders(COMPRESSED, VOCABULARY, pad_id=0), CompressionObjectiveConfig())
    for name, first in start.state_dict().items():
        found = [rank[f"student/{name}"] for rank in ranks]
        assert found[0].equal(found[1])
        if ".compression." in name:
            torch.testing.assert_close(found[0], alone[f"student/{name}"], rtol=1e-4, atol=1e-5)
            assert "key.bias" in name or not found[0].equal(first)
        else:
            assert found[0].equal(first), name
    for step in range(STEPS):
        for name in ("itm", "distil_itm", "mlm"):
            mean = torch.stack([rank[f"{step}/{name}"] for rank in ranks]).mean()
            torch.testing.assert_close(mean, alone[f"{step}/{name}"], rtol=1e-4, atol=1e-5)
