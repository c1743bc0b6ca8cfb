"""Parity with the published code on visual entailment, NLVR2 and text assignment.

Any files of the same form work: `TCL_GOLDEN_TASKS_DIR=folder pytest tests/test_golden_tasks.py`.
"""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open

from tcl.checkpoints.published import count_text_layers, from_published
from tcl.config.model import ImageEncoderConfig, ModelConfig, TextEncoderConfig
from tcl.data.batch import Batch
from tcl.data.images.image_views import Images
from tcl.data.texts.label import Labels
from tcl.data.texts.text_tokens import Texts
from tcl.models.encoders import build_encoders
from tcl.models.fused_classifier import one_image_classifier, two_image_classifier
from tcl.models.no_teacher import NoTargets
from tcl.models.paired_fusion import PairedFusion
from tcl.objectives.assignments import FIRST, NEITHER, SECOND, Assignments, assignment_weights
from tcl.objectives.fused_classes import FusedClassStudent, FusedClassTeacher, batch_logits
from tcl.objectives.text_assignment import TextAssignmentStudent, weights_from
from tcl.tasks import entailment, nlvr
from tcl.training.full_weights import full_weights

GOLDEN_DIR = Path(os.environ.get("TCL_GOLDEN_TASKS_DIR", Path(__file__).parent / "golden" / "tasks"))
TASKS = {"ve": entailment, "nlvr": nlvr}


def assert_close(ours: torch.Tensor, published: torch.Tensor) -> None:
    """Relative to the size of the whole, as in test_golden.py."""
    ours, published = ours.detach().double(), published.double()
    assert ours.shape == published.shape
    assert float((ours - published).norm()) <= 1e-4 * float(published.norm().clamp(min=1e-12))


def read(name: str) -> SimpleNamespace:
    with safe_open(GOLDEN_DIR / f"{name}.safetensors", "pt") as file:
        metadata = {key: json.loads(value) for key, value in file.metadata().items()}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return SimpleNamespace(metadata=metadata, tensors=tensors)


def under(tensors: dict, prefix: str) -> dict:
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def encoders_of(golden: SimpleNamespace, text_layers: int):
    """Random ones, before any layer is doubled."""
    bert, image_size = golden.metadata["bert_config"], golden.metadata["vision"]["image_size"]
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings")
    others = ("vocab_size", "type_vocab_size", "layer_norm_eps", "hidden_act")
    vision = {key: value for key, value in golden.metadata["vision"].items() if key != "image_size"}
    text = TextEncoderConfig(
        fusion_layers=bert["num_hidden_layers"] - text_layers, overrides={key: bert[key] for key in (*sizes, *others)}
    )
    image = ImageEncoderConfig(image_size=image_size, overrides=vision)
    torch.manual_seed(0)
    return build_encoders(
        ModelConfig(image, text, embed_dim=golden.metadata.get("embed_dim", 8)),
        bert["vocab_size"],
        bert["pad_token_id"],
    )


@pytest.fixture(scope="module", params=list(TASKS))
def step(request) -> SimpleNamespace:
    """The recorded step, in eval mode: the teacher has followed, and neither loss nor gradients are there yet."""
    golden, form = read(request.param), TASKS[request.param].FORM
    state, tensors = under(golden.tensors, "state."), golden.tensors
    published = from_published(state)
    encoders = encoders_of(golden, count_text_layers(state))
    if request.param == "ve":
        networks, inputs = one_image_classifier(encoders, "image", len(form.classes)), ["in.image"]
    else:
        networks, inputs = two_image_classifier(encoders, form.images, len(form.classes)), ["in.image0", "in.image1"]
    student, teacher = FusedClassStudent(networks), FusedClassTeacher(networks, golden.metadata["momentum"])
    student.load_state_dict(published.student)
    teacher.load_state_dict(published.teacher)
    student.eval()
    teacher.eval()
    images = {name: Images(tensors[key]) for name, key in zip(form.images, inputs, strict=True)}
    texts = Texts(tensors["in.input_ids"], tensors["in.attention_mask"])
    keys = [str(i) for i in range(len(tensors["in.targets"]))]
    batch = Batch(keys, {**images, "text": texts, "label": Labels(tensors["in.targets"])})
    teacher.update(full_weights(student.averaged))
    return SimpleNamespace(**{**vars(golden), **locals()})


@pytest.mark.parametrize(("alpha", "out"), [(None, "loss"), (0.0, "loss_alpha0"), (0.0, "loss_no_distill")])
def test_losses(step, alpha, out):
    targets = step.teacher(step.batch, {}, step.metadata["alpha"] if alpha is None else alpha)
    assert_close(step.student(step.batch, targets).total, step.tensors[f"out.{out}"])


def test_logits_of_student_and_teacher_and_what_they_say(step):
    with torch.no_grad():
        logits = batch_logits(step.student.networks, step.batch)
        assert_close(logits, step.tensors["out.logits"])
        assert_close(logits, step.tensors["out.eval_logits"])
        assert_close(batch_logits(step.teacher.networks, step.batch), step.tensors["out.logits_m"])
    assert logits.argmax(dim=1).equal(step.tensors["out.predicted"])
    right = (logits.argmax(dim=1) == step.tensors["in.targets"]).float().mean()
    assert float(right) == pytest.approx(step.metadata["accuracy"])
    named = dict(enumerate(step.form.classes))
    assert {name: i for i, name in named.items()} == step.metadata["labels"]


@pytest.mark.parametrize(("alpha", "norms"), [(None, "grad_norms"), (0.0, "grad_norms_alpha0")])
def test_gradients(step, alpha, norms):
    alpha = step.metadata["alpha"] if alpha is None else alpha
    step.student.zero_grad()
    step.student(step.batch, step.teacher(step.batch, {}, alpha)).total.backward()
    assert_gradients(step.student, step.published.source, step.metadata[norms])
    if norms == "grad_norms":
        own = {theirs: ours for ours, theirs in step.published.source.items()}
        parameters = dict(step.student.named_parameters())
        for name, gradient in under(step.tensors, "grad.").items():
            assert_close(parameters[own[name]].grad, gradient)


def assert_gradients(student: torch.nn.Module, source: dict[str, str], norms: dict[str, float]) -> None:
    """Of every trained parameter, by its name in `source`: none is missing, none is there twice."""
    found = {source[name]: p.grad.norm() for name, p in student.named_parameters() if p.requires_grad}
    assert found.keys() == norms.keys()
    scale = max(norms.values())  # keys have biases that no softmax sees: their gradients are rounding
    for name, norm in norms.items():
        assert float(found[name]) == pytest.approx(norm, rel=1e-4, abs=1e-6 * scale), name


def test_the_teacher_follows(step):
    state = step.teacher.state_dict()
    own = {theirs: ours for ours, theirs in step.published.teacher_source.items()}
    after = under(step.tensors, "after.")
    assert after
    for name, tensor in after.items():
        assert_close(state[own[name]], tensor)


@pytest.fixture(scope="module")
def assigned() -> SimpleNamespace:
    """The recorded step of text assignment, from the weights of a pre-trained model by our own way of taking them."""
    golden = read("nlvr")
    init = under(golden.tensors, "init.")
    encoders = encoders_of(golden, count_text_layers(init))
    encoders.fusion_encoder, encoders.mlm_head = PairedFusion(encoders.fusion_encoder), None
    student = TextAssignmentStudent(encoders)
    theirs = from_published(under(golden.tensors, "ta.state."))
    ours = weights_from(from_published(init).student)
    student.load_state_dict(ours | {name: theirs.student[name] for name in ("ta_head.weight", "ta_head.bias")})
    student.eval()
    tensors = golden.tensors
    texts = Texts(tensors["ta.in.input_ids"], tensors["ta.in.attention_mask"])
    batch = Batch([str(i) for i in range(len(texts.ids))], {"image": Images(tensors["ta.in.image"]), "text": texts})
    draw = Assignments(*(tensors[f"ta.draw.{name}"] for name in ("first", "second", "labels")))
    return SimpleNamespace(**{**vars(golden), **locals()})


def test_layers_are_doubled_as_published(assigned):
    state = assigned.student.state_dict()
    assert state.keys() == assigned.theirs.student.keys()
    for name, tensor in assigned.theirs.student.items():
        assert state[name].equal(tensor), name
    new = {name for name in state if name not in assigned.ours}
    assert sorted(new) == sorted(assigned.metadata["ta_missing"])


def test_classes_of_text_assignment(assigned):
    assert assigned.metadata["ta_labels"] == {"first image": FIRST, "second image": SECOND, "neither": NEITHER}
    own = torch.arange(len(assigned.draw.labels))
    for label, shown in ((FIRST, assigned.draw.first), (SECOND, assigned.draw.second)):
        assert (shown == own).equal(assigned.draw.labels == label)


def test_weights_of_other_images(assigned):
    with torch.no_grad():
        features = assigned.encoders.project_image(
            assigned.encoders.image_encoder(assigned.tensors["ta.in.image"])[:, 0]
        )
    assert_close(assignment_weights(features), assigned.tensors["ta.out.weights"])


def test_text_assignment(assigned):
    student, tensors = assigned.student, assigned.tensors
    student.zero_grad()
    losses = student(assigned.batch, NoTargets(), assigned.draw)
    losses.total.backward()
    assert_close(losses.total, tensors["ta.out.loss"])
    with torch.no_grad():
        tokens = assigned.encoders.image_encoder(tensors["ta.in.image"])
        ids, mask = tensors["ta.in.input_ids"], tensors["ta.in.attention_mask"]
        text = assigned.encoders.text_encoder(ids, mask)
        logits = student.logits(tokens, text, mask, assigned.draw.first, assigned.draw.second)
    assert_close(logits, tensors["ta.out.logits"])
    assert_gradients(student, assigned.theirs.source, assigned.metadata["ta_grad_norms"])
    own = {theirs: ours for ours, theirs in assigned.theirs.source.items()}
    for name, gradient in under(tensors, "ta.grad.").items():
        assert_close(dict(student.named_parameters())[own[name]].grad, gradient)
