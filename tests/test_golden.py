"""Parity with the published code: one pre-training step on recorded weights, inputs and draws.

Any file of the same form works: `TCL_GOLDEN_DIR=folder pytest tests/test_golden.py -k pretrain`.
"""

import json
import math
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open

from tcl.checkpoints.published import count_text_layers, from_published
from tcl.config.model import ImageEncoderConfig, ModelConfig, TextEncoderConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.data.batch import Batch
from tcl.data.images.image_views import Images
from tcl.data.texts.masking import MaskedText
from tcl.data.texts.text_tokens import Texts
from tcl.errors import InputError
from tcl.losses.itm import image_text_matching, matching_labels, negative_weights
from tcl.models.encoders import build_encoders
from tcl.objectives.hard_negatives import Negatives
from tcl.objectives.tcl import TCLStudent
from tcl.objectives.tcl_teacher import TCLTeacher
from tcl.training.full_weights import full_weights

GOLDEN_DIR = Path(os.environ.get("TCL_GOLDEN_DIR", Path(__file__).parent / "golden"))
TOLERANCE = 1e-4


def relative_error(ours: torch.Tensor, published: torch.Tensor) -> float:
    ours, published = ours.detach().double(), published.double()
    assert ours.shape == published.shape
    return float((ours - published).norm() / published.norm().clamp(min=1e-12))


def assert_close(ours: torch.Tensor, published: torch.Tensor) -> None:
    assert relative_error(ours, published) < TOLERANCE


@pytest.fixture(scope="module")
def step() -> SimpleNamespace:
    """Our models with the recorded weights, taken through the recorded step up to the backward pass."""
    torch.manual_seed(0)
    with safe_open(GOLDEN_DIR / "pretrain.safetensors", "pt") as file:
        metadata = {key: json.loads(value) for key, value in file.metadata().items()}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
    config, bert, vision = metadata["config"], metadata["bert_config"], metadata["vision"]

    text_layers = count_text_layers(state)
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings")
    others = ("vocab_size", "type_vocab_size", "layer_norm_eps", "hidden_act")
    model_config = ModelConfig(
        image=ImageEncoderConfig(image_size=config["image_res"], overrides=vision),
        text=TextEncoderConfig(
            fusion_layers=bert["num_hidden_layers"] - text_layers,
            overrides={key: bert[key] for key in (*sizes, *others)},
        ),
        embed_dim=config["embed_dim"],
    )
    objective = ObjectiveConfig(
        queue_size=config["queue_size"], momentum=config["momentum"], temperature=config["temp"]
    )
    # The published pooling cuts a g x g grid of patches into isqrt(g) x isqrt(g) regions.
    regions = math.isqrt(config["image_res"] // vision["patch_size"])

    student = TCLStudent(build_encoders(model_config, bert["vocab_size"], metadata["special_ids"]["pad"]), objective)
    teacher = TCLTeacher(student.encoders, objective, regions, seed=0)
    published = from_published(state)
    student.load_state_dict(published.student)
    teacher.load_state_dict(published.teacher)
    student.eval()
    teacher.eval()

    labels = tensors["draw.mlm_labels"].flatten()
    masked = labels != -100
    masked = MaskedText(tensors["draw.mlm_input_ids"], masked.nonzero().flatten(), labels[masked])
    inputs = {
        "image": Images(tensors["in.image"], tensors["in.image_aug"]),
        "text": Texts(tensors["in.input_ids"], tensors["in.attention_mask"], masked),
    }
    batch = Batch([str(i) for i in range(len(tensors["in.image"]))], inputs)
    yes = torch.ones(len(batch), dtype=torch.bool)
    negatives = Negatives(tensors["draw.neg_image_idx"], tensors["draw.neg_text_idx"], yes, yes)

    teacher.update(full_weights(student.encoders))
    targets = teacher(batch, {"temperature": student.temperature.detach()}, metadata["alpha"])
    losses = student(batch, targets, negatives)
    losses.total.backward()
    return SimpleNamespace(**locals())


def test_pretrain_every_tensor_is_mapped(step):
    """Ours are filled completely (strict loading, in the fixture); of theirs only constants and ties are left."""
    used = len(step.published.student) + len(step.published.teacher) - 1  # queue_ptr fills two pointers
    assert used + len(step.published.ignored) == len(step.state)
    assert all("position_ids" in name or "decoder" in name for name in step.published.ignored)


def test_pretrain_unknown_tensor_is_named(step):
    with pytest.raises(InputError, match=r"'surprise\.weight': unknown tensor"):
        from_published({**step.state, "surprise.weight": torch.zeros(1)})


def test_pretrain_untied_decoder_is_refused(step):
    name = "text_encoder.cls.predictions.decoder.weight"
    with pytest.raises(InputError, match="should be tied"):
        from_published({**step.state, name: step.state[name] + 1})


def test_pretrain_image_tokens(step):
    assert_close(step.student.encoders.image_encoder(step.batch.inputs["image"].view), step.tensors["out.image_embeds"])


@pytest.mark.parametrize("name", ["cma", "imc_image", "imc_text", "lmi_image", "lmi_text", "itm", "mlm", "ita"])
def test_pretrain_loss(step, name):
    losses = step.losses
    names = ("i2t", "t2i", "imc_image", "imc_text", "lmi_image", "lmi_text")
    six = [losses.each[name] for name in names]
    ours = {"cma": losses.each["i2t"] + losses.each["t2i"], "ita": sum(six) / 6}
    assert_close(ours[name] if name in ours else losses.each[name], step.tensors[f"out.loss_{name}"])


def test_pretrain_total_is_the_sum_of_the_parts(step):
    parts = [step.tensors[f"out.loss_{name}"] for name in ("mlm", "ita", "itm")]
    assert_close(step.losses.total, sum(parts))


def similarity_logits(step) -> tuple[torch.Tensor, torch.Tensor]:
    encoders, batch = step.student.encoders, step.batch
    image = encoders.project_image(encoders.image_encoder(batch.inputs["image"].view)[:, 0])
    text = encoders.project_text(encoders.text_encoder(batch.inputs["text"].ids, batch.inputs["text"].mask)[:, 0])
    temperature = step.student.temperature
    images, texts = torch.cat(step.targets.candidates["image"]), torch.cat(step.targets.candidates["text"])
    return image @ texts.T / temperature, text @ images.T / temperature


def test_pretrain_similarity_logits(step):
    i2t, t2i = similarity_logits(step)
    assert_close(i2t, step.tensors["out.sim_i2t"])
    assert_close(t2i, step.tensors["out.sim_t2i"])


def test_pretrain_sampling_weights(step):
    """Published: softmax, then the diagonal set to 0. Ours masks first: the same weights, each row summing to 1."""
    allowed = ~torch.eye(len(step.batch), dtype=torch.bool)
    for logits, name in zip(similarity_logits(step), ("weights_i2t", "weights_t2i"), strict=True):
        published = step.tensors[f"out.{name}"].clone().fill_diagonal_(0)
        ours = negative_weights(logits[:, : len(step.batch)], allowed)
        assert_close(ours, published / published.sum(dim=1, keepdim=True))


def test_pretrain_itm_logits(step):
    encoders, batch = step.student.encoders, step.batch
    image_tokens = encoders.image_encoder(batch.inputs["image"].view)
    text_tokens = encoders.text_encoder(batch.inputs["text"].ids, batch.inputs["text"].mask)
    pairs, _ = step.student.fuse(image_tokens, text_tokens, text_tokens, batch.inputs["text"].mask, step.negatives)
    logits = step.student.itm_head(pairs)
    assert_close(logits, step.tensors["out.itm_logits"])
    labels = matching_labels(len(batch), step.negatives.valid_images, step.negatives.valid_texts)
    assert_close(image_text_matching(logits, labels)[0], step.tensors["out.loss_itm"])


def test_pretrain_gradient_norms(step):
    """Of every trained parameter. A published norm of rounding noise (key biases do nothing) is compared absolutely."""
    largest = max(step.metadata["grad_norms"].values())
    ours = {step.published.source[name]: p.grad.norm().item() for name, p in step.student.named_parameters()}
    for name, norm in step.metadata["grad_norms"].items():
        if name not in ours:
            assert name in step.published.ignored
            continue
        assert ours.pop(name) == pytest.approx(norm, rel=TOLERANCE, abs=1e-8 * largest), name
    assert not ours


def test_pretrain_after_the_step(step):
    B = len(step.batch)
    step.teacher.enqueue(step.targets.to_enqueue(B))
    state = step.teacher.state_dict()
    after = from_published(
        {**step.state, **{k.removeprefix("after."): v for k, v in step.tensors.items() if "after." in k}}
    )
    checked = [name for name in after.teacher if not after.teacher[name].equal(step.published.teacher[name])]
    assert {"image_queue.features", "text_queue.features", "image_queue.pointer"} <= set(checked)
    for name in checked:
        assert_close(state[name], after.teacher[name])
