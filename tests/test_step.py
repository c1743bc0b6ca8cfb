"""One optimiser step: what it changes, what it skips, and that accumulation is a larger batch."""

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from tiny import random_batch, tiny_models

from tcl.config.optim import OptimConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.objectives.tcl import TCLStudent
from tcl.training.engine import PlainEngine
from tcl.training.optimiser import build_optimizer, learning_rate, soft_target_share
from tcl.training.step import train_step


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def engine_of(student: TCLStudent, clip_grad_norm: float = 1.0) -> PlainEngine:
    return PlainEngine(Accelerator(cpu=True), student, OptimConfig(clip_grad_norm=clip_grad_norm))


def run(engine, teacher, batches, step=0):
    return train_step(engine, teacher, batches, step=step, seed=0, learning_rate=1e-3, alpha=0.4)


def test_the_teacher_follows_the_student_as_the_last_step_left_it():
    student, teacher = tiny_models(ObjectiveConfig(queue_size=12, momentum=0.9))
    engine = engine_of(student)
    expected = teacher.encoders.vision_proj.weight.clone()
    for step in range(4):
        expected = 0.9 * expected + 0.1 * student.encoders.vision_proj.weight.detach()
        run(engine, teacher, [random_batch(3, seed=step)], step)
        torch.testing.assert_close(teacher.encoders.vision_proj.weight, expected)


def test_momentum_features_enter_the_queue_after_the_step_in_order():
    student, teacher = tiny_models()
    old = teacher.image_queue.features.clone()
    batches = [random_batch(3, seed=i) for i in range(2)]
    learned = {"temperature": student.temperature.detach()}
    features = [teacher(batch, learned, 0.0).candidates["image"][0] for batch in batches]
    run(engine_of(student), teacher, batches)
    torch.testing.assert_close(teacher.image_queue.features[:6], torch.cat(features))
    assert teacher.image_queue.features[6:].equal(old[6:])
    assert teacher.text_queue.pointer.item() == 6


def test_gradients_are_the_mean_over_the_accumulated_passes():
    gradients = []
    for halves in ([[0], [1]], [[0, 1]]):
        total = None
        for seeds in halves:
            student, teacher = tiny_models()
            engine = engine_of(student, clip_grad_norm=1e9)
            engine.optimizer.step = lambda: None
            engine.optimizer.zero_grad = lambda: None
            train = [random_batch(4, seed=s) for s in seeds]
            # The draw of negatives belongs to a pass' place in the step: give each pass the same place in both runs.
            objective = student.objective
            objective.itm_weight = 0.0
            run(engine, teacher, train)
            parameters = [p for p in student.parameters() if p.grad is not None]
            grads = torch.cat([p.grad.flatten() for p in parameters])
            total = grads if total is None else total + grads
        gradients.append(total / len(halves))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("broken", ["view", "other_view"])
def test_a_step_that_is_not_finite_changes_nothing_but_is_told(broken):
    student, teacher = tiny_models(ObjectiveConfig(queue_size=12, momentum=1.0))
    engine = engine_of(student)
    before = {name: value.clone() for name, value in (student.state_dict() | teacher.state_dict()).items()}
    batch = random_batch(3)
    getattr(batch.inputs["image"], broken)[1, 0, 0, 0] = torch.nan
    result = run(engine, teacher, [batch])
    assert not result.finite and not torch.isfinite(result.losses.total)
    after = student.state_dict() | teacher.state_dict()
    assert all(before[name].equal(after[name]) for name in before)
    assert run(engine, teacher, [random_batch(3)]).finite


def test_the_same_step_gives_the_same_result_whatever_ran_before():
    results = []
    for noise in (0, 3):
        student, teacher = tiny_models()
        torch.rand(noise)
        result = run(engine_of(student), teacher, [random_batch(4)], step=5)
        results.append(torch.stack([result.losses.total, *result.losses.each.values(), *result.metrics.values()]))
    assert results[0].equal(results[1])


def test_biases_norms_and_temperature_do_not_decay():
    student, _ = tiny_models()
    decayed, kept = build_optimizer(student, OptimConfig(weight_decay=0.1)).param_groups
    names = {id(p): name for name, p in student.named_parameters()}
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert all(names[id(p)].endswith(("weight", "pos_embed", "cls_token")) for p in decayed["params"])
    kept_names = {names[id(p)] for p in kept["params"]}
    assert "temperature" in kept_names and all(
        "bias" in n or "norm" in n.lower() or n == "temperature" for n in kept_names
    )


def test_schedule_by_hand():
    config = OptimConfig(lr=1.0, warmup_lr=0.2, min_lr=0.1, warmup_steps=4)
    rates = [learning_rate(step, 13, config.warmup_steps, config) for step in range(13)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[8] == pytest.approx((1.0 + 0.1) / 2)  # half way down the cosine
    assert rates[12] == pytest.approx(0.1)
    assert [soft_target_share(step, 10, 0.4) for step in (0, 5, 10, 99)] == pytest.approx([0, 0.2, 0.4, 0.4])
    assert soft_target_share(0, 0, 0.4) == 0.4


def test_temperature_is_clamped_but_not_stuck():
    student, teacher = tiny_models()
    engine = engine_of(student)
    for value, expected in ((3.0, 0.5), (-1.0, 0.001)):
        student.temperature.data.fill_(value)
        clamped = engine.clamp_loss_parameters()["temperature"]
        assert clamped.item() == student.temperature.item() == pytest.approx(expected)
    student.temperature.data.fill_(0.5)
    batch = random_batch(4)
    student(batch, teacher(batch, {"temperature": student.temperature.detach()}, 0.4)).total.backward()
    assert student.temperature.grad.item() != 0
