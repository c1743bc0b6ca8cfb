"""Contrast within the batch: its losses by hand, on two processes, and a run without a teacher."""

import json

import numpy as np
import pytest
import torch
from clip_step import student_of
from data_files import noise, write_shards
from launching import launch
from small_run import small_run
from tiny import random_batch
from torch.nn import functional as F

from tcl import TCL, TCLForVQA, TwoTowers, load_model
from tcl.commands.main import run
from tcl.commands.task_options import parse_finetune, parse_pretrain
from tcl.config.clip_objective import CLIPObjectiveConfig
from tcl.errors import InputError
from tcl.losses.pair_sigmoid import pair_sigmoid
from tcl.losses.pair_softmax import pair_softmax
from tcl.models.no_teacher import NoTargets
from tcl.tasks.pretrain import build
from tcl.training.run import train

TAU, BIAS = torch.tensor(0.2), torch.tensor(-2.0)


def unit(rows: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_softmax_is_the_cross_entropy_of_the_diagonal():
    a, b, everyone = unit(5, 0), unit(5, 1), torch.ones(5, dtype=torch.bool)
    found = pair_softmax(a, b, torch.eye(5, dtype=torch.bool), everyone, TAU)
    torch.testing.assert_close(found, F.cross_entropy(a @ b.T / TAU, torch.arange(5)))


def test_sigmoid_is_the_published_pseudocode():
    """SigLIP, algorithm 1, with t = 1 / temperature."""
    a, b, everyone = unit(5, 0), unit(5, 1), torch.ones(5, dtype=torch.bool)
    logits = a @ b.T * (1 / TAU) + BIAS
    labels = 2 * torch.eye(5) - torch.ones(5, 5)
    expected = -torch.sum(F.logsigmoid(labels * logits)) / 5
    torch.testing.assert_close(pair_sigmoid(a, b, torch.eye(5, dtype=torch.bool), everyone, TAU, BIAS), expected)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_several_right_ones_and_absent_ones_by_hand(loss):
    """Pair by pair: two of four candidates right for row 0, one absent that row 1 would want, row 2 without any."""
    a, b = unit(3, 2), unit(4, 3)
    right = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 0, 1]], dtype=torch.bool)
    counts = torch.tensor([True, True, True, False])
    total, rows = 0.0, 0
    for row in range(3):
        there = [c for c in range(4) if counts[c]]
        wanted = [c for c in there if right[row, c]]
        if not wanted:
            continue
        rows += 1
        s = {c: float(a[row] @ b[c] / TAU) for c in there}
        if loss == "softmax":
            log_sum = torch.tensor([s[c] for c in there]).logsumexp(dim=0)
            total += sum(float(log_sum) - s[c] for c in wanted) / len(wanted)
        else:
            total -= sum(float(F.logsigmoid(torch.tensor((s[c] - 2.0) * (1 if c in wanted else -1)))) for c in there)
    found = (
        pair_softmax(a, b, right, counts, TAU) if loss == "softmax" else pair_sigmoid(a, b, right, counts, TAU, BIAS)
    )
    assert rows == 2 and found.item() == pytest.approx(total / rows, rel=1e-5)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_a_batch_whose_samples_all_lack_a_modality_costs_nothing(loss):
    student, batch = student_of(loss), random_batch(3)
    student.objective.global_negatives = False
    batch.present["text"] = torch.zeros(3, dtype=torch.bool)
    losses = student(batch, NoTargets())
    losses.total.backward()
    assert losses.total.item() == 0
    assert all(torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_what_an_absent_image_holds_changes_nothing(loss):
    student, batch = student_of(loss).eval(), random_batch(4)
    student.objective.global_negatives = False
    batch.present["image"] = torch.tensor([True, False, True, True])
    first = student(batch, NoTargets()).total
    batch.inputs["image"].view[1] += 5
    assert student(batch, NoTargets()).total.equal(first)
    kept = [0, 2, 3]
    alone = random_batch(4)
    alone.inputs["image"].view, alone.keys = alone.inputs["image"].view[kept], [alone.keys[i] for i in kept]
    alone.inputs["text"].ids, alone.inputs["text"].mask = (
        alone.inputs["text"].ids[kept],
        alone.inputs["text"].mask[kept],
    )
    torch.testing.assert_close(student(alone, NoTargets()).total, first)


def test_two_processes_equal_one_with_the_whole_batch(tmp_path):
    """Losses and gradients; images that come twice, and one that is absent, on one process."""
    done = launch("tests/clip_step.py", str(tmp_path))
    assert done.returncode == 0, done.stderr
    alone, *ranks = (torch.load(tmp_path / f"{name}.pt") for name in ("alone", 0, 1))
    assert len(alone) > 100
    for name, value in alone.items():
        if "/gradient/" in name:
            for rank in ranks:
                torch.testing.assert_close(rank[name], value, rtol=1e-4, atol=1e-6)
        else:
            torch.testing.assert_close(torch.stack([rank[name] for rank in ranks]).mean(), value)


def options(tmp_path, *more: str) -> list[str]:
    given = [option for option in small_run(tmp_path) if "queue_size" not in option]
    return [*given, "--objective", "clip", f"--output_dir={tmp_path / 'run'}", *more]


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_a_run_has_no_teacher_no_second_view_and_no_masks(tmp_path, loss):
    val = f"--data.val={write_shards(tmp_path / 'val', [6])}"
    config = parse_pretrain(options(tmp_path, f"--objective.loss={loss}", val))
    assert isinstance(config.objective, CLIPObjectiveConfig)
    seen = []

    def watched(config, accelerator):
        task = build(config, accelerator)
        made = task.reader.batch
        task.reader.batch = lambda examples, seed: seen.append(made(examples, seed)) or seen[-1]
        assert list(task.teacher.parameters()) == [] and list(task.teacher.buffers()) == []
        assert task.student.encoders.fusion_encoder is None and task.student.encoders.mlm_head is None
        return task

    checkpoint = train(config, watched)
    assert (checkpoint / "student.safetensors").is_file()
    assert all(b.inputs["image"].other_view is None and b.inputs["text"].masked is None for b in seen) and seen
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "loss" in row]
    assert {"i2t", "t2i", "temperature"} <= steps[0].keys() and ("bias" in steps[0]) == (loss == "sigmoid")
    assert steps[-1]["loss"] == pytest.approx((steps[-1]["i2t"] + steps[-1]["t2i"]) / 2)
    evaluated = [row for row in rows if "eval_mean" in row]
    assert evaluated and not any("rerank" in name for name in evaluated[-1])


def test_short_form_and_section_agree_and_others_are_refused(tmp_path):
    path = tmp_path / "clip.yaml"
    path.write_text("objective: clip\n")
    given = [option for option in options(tmp_path) if option not in ("--objective", "clip")]
    (tmp_path / "clip2.yaml").write_text("objective: {name: clip, loss: sigmoid, bias: -3.0}\n")
    assert parse_pretrain([*given, f"--config={path}"]).objective == CLIPObjectiveConfig()
    found = parse_pretrain([*given, f"--config={tmp_path / 'clip2.yaml'}"]).objective
    assert found == CLIPObjectiveConfig(loss="sigmoid", bias=-3.0)
    for wrong, message in (
        (["--objective=albef"], r"^objective: 'albef' is not possible; accepted: clip, .*text_assignment, video_text$"),
        (["--objective=clip", "--objective.lmi_weight=1"], r"lmi_weight"),
        (["--objective"], r"^config: --objective needs a value"),
        (["--objective", "clip", "tcl"], r"^config: --objective\.name takes one value"),
        (["--objective={name: 3}"], r"^objective\.name is 3"),
        (["--objective=clip", "--objective.bias=1000"], r"^objective\.bias: 1000.* -100 to 100$"),
        (["--objective=clip", "--objective.temperature=2"], r"^objective\.temperature: 2.* 0\.001 to 0\.5$"),
        (["--objective=clip", "--train.batch_size=1"], r"^train\.batch_size: 1 .*at least 2"),
    ):
        with pytest.raises(InputError, match=message):
            parse_pretrain([*given, *wrong])
    with pytest.raises(InputError, match=r"^objective.* 'clip'"):
        parse_finetune(["--task=vqa", "--objective=clip"])


def test_retrieval_is_fine_tuned_from_it_by_the_same_objective(tmp_path):
    train(parse_pretrain(options(tmp_path)), build)
    arguments = [
        "--task=retrieval",
        "--train.precision=fp32",
        "--objective=clip",
        f"--init={tmp_path / 'run'}",
        f"--output_dir={tmp_path / 'tuned'}",
        f"--data.train=[{{'shards': '{tmp_path / 'train' / '*.tar'}'}}]",
        "--data.workers=0",
        "--train.steps=2",
        "--train.batch_size=4",
    ]
    config, build_task = parse_finetune(arguments)
    assert (train(config, build_task) / "student.safetensors").is_file()


def test_it_is_exported_opened_searched_and_encoded(tmp_path, capsys):
    train(parse_pretrain(options(tmp_path)), build)
    run(["export", str(tmp_path / "run"), str(tmp_path / "export")])
    assert "a clip model" in capsys.readouterr().out
    assert "TwoTowers.from_pretrained" in (tmp_path / "export" / "README.md").read_text()
    model = load_model(tmp_path / "export", device="cpu", precision="fp32")
    assert type(model) is TwoTowers
    pictures, texts = [noise(i) for i in range(4)], ["a photo of a dog", "red number", "blue cat on mat"]
    found = model.retrieve(texts, pictures, k=4)
    cosines = model.encode_text(texts) @ model.encode_image(pictures).T
    np.testing.assert_array_equal(found.ids, np.argsort(-cosines, axis=1))
    np.testing.assert_array_equal(found.match_scores, found.similarities)
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    given = [f"--texts={tmp_path / 'texts.txt'}", f"--out={tmp_path / 'out.npy'}", "--precision=fp32"]
    run(["encode", str(tmp_path / "export"), *given])
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), model.encode_text(texts), atol=1e-5)
    for wrong, right in ((TCL, "TwoTowers"), (TCLForVQA, "TwoTowers")):
        with pytest.raises(InputError, match=rf"^a clip model is no {wrong.__name__}; load it with {right}$"):
            wrong.from_pretrained(tmp_path / "export")
    with pytest.raises(InputError, match=r"^to: a clip model; the published code knows pre-training, "):
        run(["convert", "--to", "tcl", str(tmp_path / "export"), str(tmp_path / "clip.pth")])
    with pytest.raises(InputError, match=r"^source: a clip model"):
        run(["onnx", str(tmp_path / "export"), str(tmp_path / "onnx")])
