"""Frozen towers: computed once, shared with the teacher, and nowhere in what is learned or averaged."""

import json
from dataclasses import replace

import pytest
import torch
from data_files import write_shards
from launching import launch
from safetensors import safe_open
from safetensors.torch import load_file
from small_run import rows, small_run
from small_run import train as train_small
from tiny import MODEL, VOCABULARY, random_batch, tiny_models

from tcl.config.model import FusionConfig, ModelConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.data.batch import Batch
from tcl.data.texts.answer_tokens import AnswerTokens
from tcl.models.encoders import build_encoders
from tcl.models.momentum import frozen_parts
from tcl.objectives.question_answering import AnswerTeacher, VQAStudent, build_networks
from tcl.training.full_weights import full_weights


def frozen(image: str | None = None) -> ModelConfig:
    """Both towers frozen, with a fusion encoder of its own. image: another network, whose projection is trained."""
    of_image = replace(MODEL.image, frozen=True)
    if image is not None:
        of_image = replace(of_image, name=image, overrides={}, image_size=64)
    text = replace(MODEL.text, frozen=True)
    return replace(MODEL, image=of_image, text=text, fusion=FusionConfig(layers=2, heads=2))


def calls_of(module: torch.nn.Module) -> list[int]:
    """Grows by one whenever `module` is run."""
    calls: list[int] = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("image", [None, "resnet10t"])
def test_the_teacher_has_no_copy_and_the_average_passes_over_them(image):
    student, teacher = tiny_models(ObjectiveConfig(queue_size=12, momentum=0.5), frozen(image))
    parts = frozen_parts(student.averaged)
    assert len(parts) == 2
    own = {id(p) for part in parts for p in part.parameters()}
    assert not own & {id(p) for p in teacher.parameters()}
    names = teacher.encoders.state_dict()
    assert not any(
        name.startswith(("image_encoder.vit.", "image_encoder.backbone.", "text_encoder.")) for name in names
    )
    assert ("image_encoder.projection.weight" in names) == (image is not None)
    with torch.no_grad():
        for parameter in student.averaged.parameters():
            if parameter.requires_grad:
                parameter.add_(1.0)
    before = {name: value.clone() for name, value in names.items()}
    teacher.update(full_weights(student.averaged))
    weights = student.averaged.state_dict()
    floats = [name for name in before if before[name].is_floating_point()]
    assert len(floats) > 50
    for name in floats:
        torch.testing.assert_close(teacher.encoders.state_dict()[name], (before[name] + weights[name]) / 2)


def test_each_tower_is_run_once_a_view():
    student, teacher = tiny_models(model=frozen())
    batch = random_batch(4)
    images, texts = calls_of(student.encoders.image_encoder.vit), calls_of(student.encoders.text_encoder.bert)
    for alpha in (0.0, 0.4):
        targets = teacher(batch, {"temperature": student.temperature.detach()}, alpha)
        student(batch, targets).total.backward()
        assert (len(images), len(texts)) == (2, 1), "two views of the image, one of the text, masked texts with it"
        images.clear(), texts.clear()
    assert [name for name, p in student.named_parameters() if p.requires_grad and p.grad is None] == []


def test_losses_are_those_of_towers_that_are_not_shared():
    """As if each had computed them for itself."""
    student, teacher = tiny_models(model=frozen())
    batch, learned = random_batch(4), {"temperature": student.temperature.detach()}
    targets = teacher(batch, learned, 0.4)
    torch.manual_seed(1)
    shared = student(batch, targets)
    targets.text_tokens = None
    torch.manual_seed(1)
    alone = student(batch, targets)
    assert shared.each.keys() == alone.each.keys()
    for name, value in shared.each.items():
        torch.testing.assert_close(value, alone.each[name])


@pytest.mark.parametrize("patch_drop", [0.0, 0.5])
def test_a_frozen_tower_answers_questions_once_for_both(patch_drop):
    model = frozen()
    model.image.patch_drop = patch_drop
    torch.manual_seed(0)
    networks = build_networks(build_encoders(model, VOCABULARY, pad_id=0), 1)
    student, teacher = VQAStudent(networks), AnswerTeacher(networks, momentum=0.9)
    pairs = random_batch(3)
    ids = torch.tensor([[2, 7, 3], [2, 9, 3], [2, 8, 3]])
    answers = AnswerTokens(ids, torch.ones(3), torch.arange(3), torch.tensor([0, 1, 3, 4, 6, 7]), ids[:, 1:].flatten())
    batch = Batch(pairs.keys, pairs.inputs | {"answer": answers})
    images, texts = calls_of(networks.image_encoder.vit), calls_of(networks.text_encoder.bert)
    student(batch, teacher(batch, {}, 0.4)).total.backward()
    # With patches left out the student sees others than the teacher.
    assert (len(images), len(texts)) == (1 if patch_drop == 0 else 2, 1)
    trained = [name for name, p in student.named_parameters() if p.requires_grad]
    assert trained and not any("vit." in name or "bert." in name for name in trained)


FROZEN = [
    "--model.image.frozen=true",
    "--model.text.frozen=true",
    "--model.fusion={layers: 1, width: 16, heads: 2}",
]


def names_in(path) -> list[str]:
    with safe_open(path, "pt") as file:
        return list(file.keys())


def test_a_run_keeps_them_out_of_its_files_and_goes_on_to_the_bit(tmp_path):
    options = [*small_run(tmp_path), *FROZEN, f"--data.val={write_shards(tmp_path / 'val', [6])}", "--eval.rerank_k=3"]
    options.append("--train.steps=6")
    whole = train_small(options, tmp_path / "whole", "--train.save_every=3")
    middle = whole.with_name("step_00000003")
    again = train_small(options, tmp_path / "parts", f"--train.resume={middle}")
    towers = ("encoders.image_encoder.", "encoders.text_encoder.")
    for name in ("optimizer", "teacher"):
        assert not any(one.startswith(towers) for one in names_in(again / f"{name}.safetensors"))
    for name in ("student", "optimizer", "teacher"):
        ours, theirs = load_file(again / f"{name}.safetensors"), load_file(whole / f"{name}.safetensors")
        assert ours.keys() == theirs.keys() and all(ours[one].equal(theirs[one]) for one in ours)
    losses = [[row["loss"] for row in rows(tmp_path / one) if "loss" in row] for one in ("whole", "parts")]
    assert losses[0][3:] == losses[1]


@pytest.mark.slow
@pytest.mark.parametrize("sharding", [None, "zero2", "zero3"])
def test_two_processes_and_sharding_train_around_frozen_towers(tmp_path, sharding):
    options = [*small_run(tmp_path), *FROZEN, "--train.steps=3", "--objective.global_negatives=true"]
    train_small([*options, "--train.batch_size=8"], tmp_path / "alone")
    more = [f"--train.deepspeed={sharding}"] if sharding else []
    done = launch("pretrain.py", *options, *more, f"--output_dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    steps = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert all("loss" in row for row in steps[:3])
    towers = ("encoders.image_encoder.", "encoders.text_encoder.")
    for name in ("optimizer", "teacher"):
        path = tmp_path / "two" / "checkpoints" / "step_00000003" / f"{name}.safetensors"
        assert not any(one.startswith(towers) for one in names_in(path))
    alone, two = (
        load_file(tmp_path / one / "checkpoints" / "step_00000003" / "student.safetensors") for one in ("alone", "two")
    )
    assert alone.keys() == two.keys()
    assert all(alone[name].equal(two[name]) for name in alone if name.startswith(towers))
