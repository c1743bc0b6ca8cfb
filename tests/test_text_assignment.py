"""Text assignment and doubled layers: draws by their definition, from a run to NLVR2, one parameter for two layers."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from launching import launch
from paired_step import batch_of, run, student_of
from safetensors.torch import load_file
from small_run import rows, small_run
from small_run import train as pretrain
from statements import nlvr_shard
from tiny import MODEL, VOCABULARY, random_batch

from tcl import load_model
from tcl.commands.main import run as command
from tcl.commands.task_options import parse_finetune, parse_pretrain
from tcl.data.batch import Batch
from tcl.errors import InputError
from tcl.losses.itm import LEFT_OUT
from tcl.models.encoders import build_encoders
from tcl.models.no_teacher import NoTargets
from tcl.models.paired_fusion import SHARED, PairedFusion
from tcl.objectives.assignments import FIRST, NEITHER, SECOND, assignment_weights, draw_assignments
from tcl.objectives.fused_classes import batch_logits
from tcl.objectives.text_assignment import TextAssignmentStudent
from tcl.tasks.pretrain import build


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_weights_by_hand():
    features = torch.nn.functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    found = assignment_weights(features, torch.tensor([7, 8, 7, 9]))
    for i in range(4):
        whole = sum(torch.exp(features[i] @ other / 0.07) for other in features)
        for j in range(4):
            same = i == j or {i, j} == {0, 2}
            expected = 0.0 if same else torch.exp(features[i] @ features[j] / 0.07) / whole
            assert float(found[i, j]) == pytest.approx(float(expected), rel=1e-4)


def test_draws_have_the_shares_that_they_are_defined_by():
    """Of 20,000 texts, each with three others: a third each class, others by weight, two without replacement."""
    torch.manual_seed(0)
    weights = torch.tensor([0.0, 0.5, 0.3, 0.1]).repeat(20_000, 1)
    drawn = draw_assignments(weights)
    own, others = torch.arange(20_000), weights[0] / weights[0].sum()
    for label in (FIRST, SECOND, NEITHER):
        assert float((drawn.labels == label).float().mean()) == pytest.approx(1 / 3, abs=0.015)
    first, second, neither = (drawn.labels == label for label in (FIRST, SECOND, NEITHER))
    assert drawn.first[first].equal(own[first]) and drawn.second[second].equal(own[second])
    for found in (drawn.second[first], drawn.first[second], drawn.first[neither]):
        shares = torch.bincount(found, minlength=4) / len(found)
        torch.testing.assert_close(shares, others, rtol=0, atol=0.02)
    assert (drawn.first[neither] != drawn.second[neither]).all() and (drawn.second[neither] > 0).all()
    after_one = drawn.second[neither][drawn.first[neither] == 1]
    assert float((after_one == 2).float().mean()) == pytest.approx(0.3 / 0.4, abs=0.03)


def test_texts_without_two_other_images_are_left_out():
    features = torch.eye(4)
    drawn = draw_assignments(assignment_weights(features, torch.tensor([1, 1, 1, 2])))
    assert drawn.labels[:3].tolist() == [LEFT_OUT] * 3 and drawn.labels[3] != LEFT_OUT
    nothing = draw_assignments(torch.full((3, 3), torch.nan))
    assert nothing.labels.tolist() == [LEFT_OUT] * 3 and int(nothing.first.max()) < 3


def assigning() -> TextAssignmentStudent:
    torch.manual_seed(0)
    encoders = build_encoders(MODEL, VOCABULARY, 0)
    encoders.fusion_encoder, encoders.mlm_head = PairedFusion(encoders.fusion_encoder), None
    return TextAssignmentStudent(encoders)


def test_a_batch_of_one_image_costs_nothing():
    whole = random_batch(4)
    losses = assigning()(Batch(whole.keys, whole.inputs, ids=torch.zeros(4, dtype=torch.long)), NoTargets())
    assert losses.total.item() == 0 and float(losses.metrics["accuracy"]) == 0


def test_all_that_is_trained_gets_a_gradient_and_the_rest_is_not_trained():
    student = assigning()
    student(random_batch(6), NoTargets()).total.backward()
    still = {name for name, p in student.named_parameters() if not p.requires_grad}
    assert {name.split(".")[-2] for name in still if "." in name} == {"vision_proj", "text_proj"}
    assert "temperature" in still
    assert [name for name, p in student.named_parameters() if p.requires_grad and p.grad is None] == []


def test_a_pair_of_layers_is_two_layers_with_tied_keys_and_values():
    """Against the slow obvious way: separate layers, to the second of which keys and values are copied."""
    student = student_of().eval()
    networks, batch = student.networks, batch_of(0, 0)
    for pair in networks.fusion_encoder.layers:
        for parameter in pair.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    with torch.no_grad():
        found = batch_logits(networks, batch)
        texts = batch.inputs["text"]
        text, mask = networks.text_encoder(texts.ids, texts.mask), texts.mask.bool()[:, None, None, :]
        left, right = (networks.image_encoder(batch.inputs[name].view) for name in networks.images)
        for pair in networks.fusion_encoder.layers:
            for layer, tokens in ((pair.first, left), (pair.second, right)):
                look = layer.cross_attention
                look.key, look.value = pair.first.cross_attention.key, pair.first.cross_attention.value
                text = layer(text, mask, look.keys_values(tokens))
        torch.testing.assert_close(found, networks.cls_head(text[:, 0]))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_computing_layers_again_changes_nothing(checkpointing):
    student = student_of()
    student.networks.fusion_encoder.configure_layers(activation_checkpointing=checkpointing, fused_attention=True)
    batch_logits(student.networks, batch_of(0, 0)).sum().backward()
    grads = [p.grad for p in student.parameters()]
    plain = student_of()
    batch_logits(plain.networks, batch_of(0, 0)).sum().backward()
    for found, expected in zip(grads, (p.grad for p in plain.parameters()), strict=True):
        torch.testing.assert_close(found, expected)


def test_from_a_run_to_text_assignment_to_nlvr(tmp_path):
    given = small_run(tmp_path)
    first = pretrain(given, tmp_path / "tcl", "--train.steps=2")
    plain = [option for option in given if not option.startswith(("--model.", "--objective."))]
    more = ["--objective=text_assignment", f"--init={tmp_path / 'tcl'}", "--train.steps=3", "--optim.lr=1e-9"]
    more += ["--optim.warmup_lr=0", "--optim.min_lr=0", f"--data.val={tmp_path / 'train' / '000000.tar'}"]
    second = pretrain([*plain, *more], tmp_path / "ta")
    before, after = load_file(first / "student.safetensors"), load_file(second / "student.safetensors")
    assert not load_file(second / "teacher.safetensors")
    layer = "encoders.fusion_encoder.layers.0."
    for name, weight in before.items():
        if name.startswith(layer):
            rest = name.removeprefix(layer)
            torch.testing.assert_close(after[f"{layer}first.{rest}"], weight, rtol=0, atol=1e-6)
            assert (f"{layer}second.{rest}" in after) == (not rest.startswith(SHARED))
    assert torch.equal(after["temperature"], before["temperature"])
    logged = [row for row in rows(tmp_path / "ta") if "loss" in row]
    assert len(logged) == 3 and {"assignment", "accuracy"} <= logged[0].keys()
    assert any("eval_i2t_r1" in row for row in rows(tmp_path / "ta"))
    command(["export", str(tmp_path / "ta"), str(tmp_path / "export")])
    assert load_model(tmp_path / "export", device="cpu").pretrained.kind.name == "text_assignment"
    nlvr_shard(tmp_path / "nlvr.tar", range(8))
    shards = [f"--data.train=[{{'shards': '{tmp_path / 'nlvr.tar'}'}}]", "--data.workers=0", "--output_dir=run"]
    config, build_nlvr = parse_finetune(["--task=nlvr", f"--init={tmp_path / 'export'}", *shards])
    made = build_nlvr(config, Accelerator(cpu=True))
    assert made.notices == [f"init: {tmp_path / 'export'} has no weights for cls_head: they start random"]
    for part in (made.student.networks, made.teacher.networks):
        own = part.state_dict()
        assert all(own[name].equal(after[f"encoders.{name}"]) for name in own if not name.startswith("cls_head."))


def test_a_batch_needs_two_other_images(tmp_path):
    given = [option for option in small_run(tmp_path) if not option.startswith(("--objective.", "--train.batch_size"))]
    with pytest.raises(InputError, match=r"^train\.batch_size: 2 is not possible; accepted: at least 3: a text is "):
        parse_pretrain([*given, "--objective=text_assignment", "--train.batch_size=2"])


def test_pretraining_goes_on_from_weights(tmp_path):
    given = small_run(tmp_path)
    first = pretrain(given, tmp_path / "first", "--train.steps=2")
    plain = [option for option in given if not option.startswith("--model.")]
    config = parse_pretrain([*plain, f"--init={tmp_path / 'first'}", f"--output_dir={tmp_path / 'second'}"])
    task = build(config, Accelerator(cpu=True))
    weights = load_file(first / "student.safetensors")
    assert all(task.student.state_dict()[name].equal(weight) for name, weight in weights.items())
    with pytest.raises(InputError, match=r"^init: 'nowhere' holds no weights"):
        build(parse_pretrain([*given, "--init=nowhere", "--output_dir=run"]), Accelerator(cpu=True))


@pytest.mark.parametrize("mode", ["ddp", *(pytest.param(f"zero{i}", marks=pytest.mark.slow) for i in (1, 3))])
def test_two_processes_equal_one(tmp_path, mode):
    """Keys and values of a pair get the gradients of both layers once, and the teacher follows them once."""
    done = launch("tests/paired_step.py", str(tmp_path), mode)
    assert done.returncode == 0, done.stderr[-3000:]
    (tmp_path / "alone").mkdir()
    alone = run("ddp", tmp_path / "alone", halves=2)
    for rank in (0, 1):
        found = torch.load(Path(tmp_path) / f"{rank}.pt", weights_only=True)
        assert found.keys() == alone.keys()
        for name, value in alone.items():
            torch.testing.assert_close(
                found[name], value, rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
            )
