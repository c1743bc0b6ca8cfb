"""Dual softmax and circle loss where they meet the rest: which pairs are right, in the batch, the queue, the world."""

import math

import pytest
import torch
from small_run import rows, small_run
from small_run import train as train_small
from tiny import random_batch, tiny_models
from torch import Tensor

from tcl.config.tcl_objective import ObjectiveConfig
from tcl.errors import InputError
from tcl.losses.circle import circle_loss, mean_of_rows

B, K = 4, 6
ALONE = dict.fromkeys(("cma_weight", "imc_weight", "lmi_weight", "itm_weight", "mlm_weight"), 0.0)


def step(objective: ObjectiveConfig, ids: list[int] | None, queued: list[int] | None):
    """Losses of a batch, its features and the teacher's, and what is in the queue."""
    student, teacher = tiny_models(objective, with_ids=queued is not None)
    batch = random_batch(B)
    batch.ids = None if ids is None else torch.tensor(ids)
    if queued is not None:
        teacher.id_queue.ids.copy_(torch.tensor(queued))
    targets = teacher(batch, {"temperature": student.temperature.detach()}, 0.0)
    losses = student(batch, targets)
    encoders, texts = student.encoders, batch.inputs["text"]
    own = {
        "i2t": encoders.project_image(encoders.image_encoder(batch.inputs["image"].view)[:, 0]),
        "t2i": encoders.project_text(encoders.text_encoder(texts.ids, texts.mask)[:, 0]),
    }
    others = {"i2t": torch.cat(targets.candidates["text"]), "t2i": torch.cat(targets.candidates["image"])}
    return losses, own, others, student


def circle_by_hand(features: Tensor, candidates: Tensor, same: list[list[bool]], margin: float, scale: float) -> float:
    """One anchor after the other, in Python's numbers."""
    total, count = 0.0, 0
    for feature, right in zip(features.tolist(), same, strict=True):
        cosines = [sum(a * b for a, b in zip(feature, candidate, strict=True)) for candidate in candidates.tolist()]
        away = [s for s, is_right in zip(cosines, right, strict=True) if not is_right]
        near = [s for s, is_right in zip(cosines, right, strict=True) if is_right]
        if not away or not near:
            continue
        wrong = sum(math.exp(scale * max(0, s + margin) * (s - margin)) for s in away)
        pull = sum(math.exp(-scale * max(0, 1 + margin - s) * (s - 1 + margin)) for s in near)
        total, count = total + math.log(1 + wrong * pull), count + 1
    return total / count


@pytest.mark.parametrize(
    ("ids", "queued"), [(None, None), ([5, 6, 5, 7], None), ([5, 6, 5, 7], [7, -1, 5, 9, -1, 6]), ([1, 1, 1, 1], None)]
)
def test_circle_loss_of_a_step(ids, queued):
    """Without ids each sample has its own pair alone; queues without ids hold nothing that is right."""
    objective = ObjectiveConfig(queue_size=K, **ALONE, circle_weight=1.0, circle_margin=0.3, circle_scale=5.0)
    losses, own, others, _ = step(objective, ids, queued)
    names = ids or list(range(B))
    known = names + (queued or [None] * K)
    same = [[name == other for other in known] for name in names]
    assert set(losses.each) == {"circle_i2t", "circle_t2i"}
    for way in ("i2t", "t2i"):
        expected = circle_by_hand(own[way], others[way], same, 0.3, 5.0)
        assert losses.each[f"circle_{way}"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("ids", [None, [5, 6, 5, 7]])
def test_dual_softmax_loss_of_a_step(ids):
    objective = ObjectiveConfig(queue_size=K, **ALONE, dsl_weight=1.0, dsl_temperature=2.0)
    losses, own, _, student = step(objective, ids, None)
    names = ids or list(range(B))
    image, text = own["i2t"].tolist(), own["t2i"].tolist()
    tau = student.temperature.item()
    logits = [[sum(a * b for a, b in zip(one, other, strict=True)) / tau for other in text] for one in image]
    for way, table in (("i2t", logits), ("t2i", [list(column) for column in zip(*logits, strict=True)])):
        total = 0.0
        for q in range(B):
            scored = []
            for c in range(B):
                prior = math.exp(table[q][c] / 2.0) / sum(math.exp(table[other][c] / 2.0) for other in range(B))
                scored.append(B * table[q][c] * prior)
            right = [c for c in range(B) if names[c] == names[q]]
            partition = math.log(sum(math.exp(score) for score in scored))
            total += partition - sum(scored[c] for c in right) / len(right)
        assert losses.each[f"dsl_{way}"].item() == pytest.approx(total / B, rel=1e-4)


def test_rows_without_a_right_or_a_wrong_pair_cost_nothing():
    similarities = torch.tensor([[0.2, 0.9], [0.5, -0.4], [0.1, 0.3]], requires_grad=True)
    right = torch.tensor([[True, False], [True, True], [False, False]])
    losses = circle_loss(similarities, right, ~right, 0.25, 64.0)
    assert losses[1:].tolist() == [0.0, 0.0]
    loss = mean_of_rows(losses, right, ~right)
    assert loss.item() == losses[0].item() > 0
    loss.backward()
    assert similarities.grad[1:].eq(0).all() and similarities.grad[0].ne(0).all()
    none = torch.zeros(2, 3, dtype=torch.bool)
    assert mean_of_rows(circle_loss(torch.rand(2, 3), none, ~none, 0.25, 64.0), none, ~none).item() == 0.0


def test_weights_have_no_gradient():
    """The published derivative is gamma (s_n + m), where that of the value is 2 gamma s_n."""
    similarity = torch.tensor([[0.4, 0.6]], requires_grad=True)
    right = torch.tensor([[False, True]])
    circle_loss(similarity, right, ~right, 0.25, 2.0).sum().backward()
    wrong, pull = 2 * 0.65 * (0.4 - 0.25), 2 * 0.65 * (0.75 - 0.6)
    share = 1 / (1 + math.exp(-(wrong + pull)))
    assert similarity.grad[0].tolist() == pytest.approx([share * 2 * 0.65, -share * 2 * 0.65])


@pytest.mark.parametrize("task", [[], ["--objective.global_negatives=true"]])
def test_a_run_with_both_learns_and_logs_them(tmp_path, task):
    options = [*small_run(tmp_path), "--objective.dsl_weight=1", "--objective.circle_weight=0.1", "--train.steps=4"]
    train_small(options, tmp_path / "run", *task)
    logged = [row for row in rows(tmp_path / "run") if "loss" in row]
    assert len(logged) == 4
    for row in logged:
        assert all(math.isfinite(row[name]) for name in ("dsl_i2t", "dsl_t2i", "circle_i2t", "circle_t2i"))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("dsl_weight=-1", "objective.dsl_weight: -1.0 is not possible; accepted: "),
        ("dsl_temperature=0", "objective.dsl_temperature: 0.0 is not possible; accepted: a number > 0"),
        ("circle_scale=0", "objective.circle_scale: 0.0 is not possible; accepted: a number > 0"),
        ("circle_margin=1.5", "objective.circle_margin: 1.5 is not possible; accepted: 0 to 1"),
        ("circle_weight=-1", "objective.circle_weight: -1.0 is not possible; accepted: "),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, option, message):
    with pytest.raises(InputError) as told:
        train_small(small_run(tmp_path), tmp_path / "run", f"--objective.{option}")
    assert str(told.value).startswith(message)
