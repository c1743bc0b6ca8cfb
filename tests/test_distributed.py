"""Two real processes on gloo: DDP and every ZeRO stage do the same as each other and as one process with the whole
batch, and the teacher follows the student on every rank. What happens in them is in two_processes.py."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from data_files import write_shards
from launching import ENVIRONMENT, ROOT, TORCHRUN, launch
from safetensors.torch import load_file
from two_processes import BROKEN_STEP, OBJECTIVE, STEPS, run

from tcl.data.texts.vocabulary import train_tokenizer
from tcl.exports.pretrained import load_pretrained

STATE = ("student.safetensors", "teacher.safetensors", "optimizer.safetensors")
LOSSES = ("loss", "i2t", "t2i", "imc_image", "imc_text", "lmi_image", "lmi_text", "itm", "mlm")
ZERO = ["zero0", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload"]
slow = pytest.mark.slow  # DeepSpeed compiles its CPU communication when it is first used


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What both ranks saw, by mode and precision; each is run once."""
    seen: dict[tuple[str, ...], list[dict[str, torch.Tensor]]] = {}

    def outcome(*arguments: str) -> list[dict[str, torch.Tensor]]:
        if arguments not in seen:
            out = tmp_path_factory.mktemp("ranks")
            done = launch("tests/two_processes.py", str(out), *arguments)
            assert done.returncode == 0, done.stderr[-3000:]
            seen[arguments] = [torch.load(out / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
        return seen[arguments]

    return outcome


@pytest.fixture(scope="module")
def global_step(tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    """What both ranks of tests/global_step.py saw, and what one process with the whole batch saw."""
    out = tmp_path_factory.mktemp("global")
    done = launch("tests/global_step.py", str(out))
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(out / f"{name}.pt", weights_only=True) for name in ("0", "1", "alone")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> dict[str, torch.Tensor]:
    """One process that does all passes of both by accumulation."""
    return run("ddp", "fp32", False, tmp_path_factory.mktemp("alone"), halves=2)


def state(outcome: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: v for name, v in outcome.items() if name.startswith(("student/", "teacher/", "moments/"))}


def assert_same(outcome: list[dict], reference: list[dict]) -> None:
    """Losses of every step (means over the ranks), and student, teacher, queues and moments after the last."""
    for step in range(STEPS):
        for name in (*LOSSES, "grad_norm", "temperature"):
            ours, theirs = (
                torch.stack([rank[f"{step}/{name}"] for rank in one]).mean() for one in (outcome, reference)
            )
            if step == BROKEN_STEP:
                assert torch.isfinite(ours) == torch.isfinite(theirs)
            else:
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=lambda t, n=name: f"{n}: {t}")
        assert all(rank[f"{step}/finite"] == (step != BROKEN_STEP) for rank in outcome)
    for rank in outcome:
        assert state(rank).keys() == state(reference[0]).keys()
        for name, value in state(reference[0]).items():
            torch.testing.assert_close(rank[name], value, rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


def test_two_processes_equal_one_that_accumulates(outcomes, alone):
    assert_same(outcomes("ddp", "fp32"), [alone])


@slow
@pytest.mark.parametrize("mode", ZERO)
def test_every_zero_stage_equals_ddp(outcomes, mode):
    assert_same(outcomes(mode, "fp32"), outcomes("ddp", "fp32"))


@pytest.mark.parametrize(
    ("mode", "precision"),
    [("ddp", "fp32"), ("ddp", "bf16"), *[pytest.param(mode, p, marks=slow) for mode in ZERO for p in ("fp32", "bf16")]],
)
def test_the_teacher_is_the_moving_average_of_the_student_on_every_rank(outcomes, mode, precision):
    """Its closed form from the recorded weights: m^n theta'_0 + (1 - m) sum of m^(n - 1 - i) theta_i, in float64."""
    m = OBJECTIVE.momentum
    for rank in outcomes(mode, precision):
        names = [name.removeprefix("before/0/") for name in rank if name.startswith("before/0/")]
        assert len(names) > 50
        for name in names:
            weights = [rank[f"before/{step}/{name}"].double() for step in range(STEPS)]
            assert weights[0].dtype == torch.float64 and rank[f"before/0/{name}"].dtype == torch.float32
            expected = m**STEPS * weights[0] + (1 - m) * sum(
                m ** (STEPS - 1 - step) * weight for step, weight in enumerate(weights)
            )
            teacher = rank[f"teacher/encoders.{name}"]
            torch.testing.assert_close(teacher.double(), expected, rtol=1e-5, atol=1e-7)
        moved = [not rank[f"teacher/encoders.{name}"].equal(rank[f"before/0/{name}"]) for name in names]
        assert sum(moved) > 0.9 * len(moved)


@pytest.mark.parametrize("mode", ["ddp", *[pytest.param(mode, marks=slow) for mode in ZERO]])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_student_teacher_and_queues_are_identical_on_both_ranks(outcomes, mode, precision):
    first, second = (state(rank) for rank in outcomes(mode, precision))
    assert any("queue" in name for name in first)
    assert all(first[name].equal(second[name]) for name in first)


@pytest.mark.parametrize("mode", ["ddp", *[pytest.param(mode, marks=slow) for mode in ZERO]])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_that_is_not_finite_on_one_process_is_skipped_on_both(outcomes, mode, precision):
    for rank in outcomes(mode, precision):
        names = [name.removeprefix("before/0/") for name in rank if name.startswith("before/0/")]
        assert all(rank[f"before/{BROKEN_STEP}/{n}"].equal(rank[f"before/{BROKEN_STEP + 1}/{n}"]) for n in names)
        assert not rank[f"{BROKEN_STEP}/finite"] and rank[f"{BROKEN_STEP + 1}/finite"]


@slow
@pytest.mark.parametrize("mode", ZERO[1:])
def test_bf16_masters_move_where_bf16_weights_would_stand_still(outcomes, mode):
    """In bf16 a step of 1e-3 on a weight near 1 is below half a unit in the last place (2^-9) and would be lost."""
    rank = outcomes(mode, "bf16")[0]
    norms = [name for name in rank if name.startswith("before/1/") and name.endswith("norm1.weight")]
    for name in norms:
        changed = rank[name] - rank[name.replace("before/1/", "before/0/")]
        assert 0 < changed.abs().max() < 2**-9


def test_global_negatives_on_two_processes_equal_one_with_the_whole_batch(global_step):
    """Losses, gradients and the features that would enter the queue; texts of other lengths and other numbers of
    masked tokens on each rank, and negatives that cross from one to the other."""
    *ranks, alone = global_step
    for name in (*LOSSES[1:], "itm_accuracy"):
        both = torch.stack([rank[name] for rank in ranks]).mean()
        torch.testing.assert_close(both, alone[name], rtol=1e-5, atol=1e-6)
    gradients = [name for name in alone if name.startswith("gradient/")]
    assert len(gradients) > 50
    for rank in ranks:
        for name in gradients:
            torch.testing.assert_close(rank[name], alone[name], rtol=1e-4, atol=1e-6, msg=lambda t, n=name: f"{n}: {t}")
        assert rank["image_candidates"].allclose(alone["image_candidates"], atol=1e-6)
        assert rank["text_candidates"].allclose(alone["text_candidates"], atol=1e-6)


def test_with_global_negatives_itm_draws_from_all_ranks_and_never_itself(global_step):
    for rank, drawn in enumerate(one["drawn"] for one in global_step[:2]):
        B = drawn.shape[-1]
        assert set(drawn.flatten().tolist()) == set(range(2 * B))
        assert (drawn != rank * B + torch.arange(B)).all()


def tiny_run(tmp_path: Path) -> list[str]:
    """The command line of a run of 10 steps, less its output_dir."""
    train = write_shards(tmp_path / "train", [20, 20, 20])
    train_tokenizer(train, tmp_path / "tokenizer", vocab_size=100)
    return [
        "pretrain.py",
        f"--data.train=[{{'shards': '{train}'}}]",
        f"--data.val={write_shards(tmp_path / 'val', [7])}",  # odd: the processes have unequal shares of it
        "--data.workers=2",
        "--model.image.image_size=32",
        "--model.image.overrides={embed_dim: 32, depth: 1, num_heads: 2}",
        f"--model.text.tokenizer={tmp_path / 'tokenizer'}",
        "--model.text.overrides={hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 64}",
        "--objective.queue_size=20",
        "--eval.rerank_k=4",
        "--train.batch_size=4",
        "--train.precision=fp32",
        "--train.steps=10",
        "--train.save_every=4",
        "--train.keep_checkpoints=9",
        "--train.log_every=1",
        f"--output_dir={tmp_path / 'run'}",
    ]


def steps_of(tmp_path: Path) -> list[int]:
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    return [row["step"] for row in rows if "loss" in row]


def test_a_whole_run_on_two_processes_that_goes_on_on_one(tmp_path):
    command = tiny_run(tmp_path)
    done = launch(*command, "--train.steps=4")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 process(es) on cpu, fp32, DDP; global batch 8" in done.stdout and "7.5 steps an epoch" in done.stdout
    alone = subprocess.run([TORCHRUN[0], *command], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert alone.returncode == 0, alone.stderr[-3000:]
    assert "1 ranks x 2 workers go on where 2 x 2 were" in alone.stdout and "order of samples differs" in alone.stdout
    assert steps_of(tmp_path) == list(range(1, 11))


@slow
@pytest.mark.parametrize("settings", ["zero1", "zero3"])
def test_a_whole_run_in_bf16_under_deepspeed(tmp_path, settings):
    done = launch(*tiny_run(tmp_path), f"--train.deepspeed=configs/deepspeed/{settings}.json", "--train.precision=bf16")
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"bf16, DeepSpeed ZeRO {settings[-1]}" in done.stdout and "after 10 steps, retrieval" in done.stdout
    assert steps_of(tmp_path) == list(range(1, 11))


@slow
def test_a_zero_3_run_stops_and_goes_on_and_any_other_goes_on_from_it(tmp_path):
    """To the bit where nothing changed; its checkpoint is whole, so a plain run reads it."""
    command = tiny_run(tmp_path)
    sharded = "--train.deepspeed=configs/deepspeed/zero3.json"
    done = launch(*command, sharded)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "DeepSpeed ZeRO 3" in done.stdout
    checkpoints = tmp_path / "run" / "checkpoints"
    whole = {name: load_file(checkpoints / "step_00000010" / name) for name in STATE}
    whole = {name: {key: value.clone() for key, value in tensors.items()} for name, tensors in whole.items()}
    loaded = load_pretrained(str(tmp_path / "run"), with_teacher=True)
    assert all(whole["student.safetensors"][key].equal(value) for key, value in loaded.student.state_dict().items())
    assert all(whole["teacher.safetensors"][key].equal(value) for key, value in loaded.teacher.items())
    for options in ([sharded], []):
        for late in ("step_00000010", "step_00000008"):
            shutil.rmtree(checkpoints / late)
        done = launch(*command, *options)
        assert done.returncode == 0 and "resumed from" in done.stdout, done.stderr[-3000:]
        for name in STATE:
            again = load_file(checkpoints / "step_00000010" / name)
            assert again.keys() == whole[name].keys()
            for key, value in again.items():
                if options:
                    assert value.equal(whole[name][key]), key
                else:
                    torch.testing.assert_close(value, whole[name][key], rtol=1e-3, atol=1e-3)
