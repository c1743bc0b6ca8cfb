"""Two real processes on gloo against one process that does both halves of the global batch by accumulation.

With local negatives each pass contrasts its own batch with the queue, so two processes of B and one process with two
passes of B must agree in everything: losses, weights, teacher and queues.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from data_files import write_shards
from two_processes import STEPS, run

from tools.train_tokenizer import train_tokenizer

ROOT = Path(__file__).parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]


def launch(*arguments: str) -> subprocess.CompletedProcess:
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
        "OMP_NUM_THREADS": "1",
        "HOME": "/tmp",
    }
    return subprocess.run([*TORCHRUN, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> list[dict[str, torch.Tensor]]:
    out = tmp_path_factory.mktemp("ranks")
    done = launch("tests/two_processes.py", str(out))
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_student_teacher_and_queues_are_identical_on_both_ranks(outcomes):
    names = [name for name in outcomes[0] if name.startswith(("student/", "teacher/"))]
    assert any("queue" in name for name in names)
    assert all(outcomes[0][name].equal(outcomes[1][name]) for name in names)


def test_two_processes_equal_one_that_accumulates(outcomes):
    alone = run(passes_per_process=2)
    for step in range(STEPS):
        for name in ("loss", "i2t", "t2i", "imc_image", "imc_text", "lmi_image", "lmi_text", "itm", "mlm"):
            both = (outcomes[0][f"{step}/{name}"] + outcomes[1][f"{step}/{name}"]) / 2
            torch.testing.assert_close(both, alone[f"{step}/{name}"], rtol=1e-4, atol=1e-5)
    for name, value in alone.items():
        if name.startswith(("student/", "teacher/")):
            torch.testing.assert_close(outcomes[0][name], value, rtol=1e-4, atol=1e-5)


def test_a_whole_run_on_two_processes(tmp_path):
    train = write_shards(tmp_path / "train", [20, 20, 20])
    train_tokenizer(train, tmp_path / "tokenizer", vocab_size=100)
    done = launch(
        "pretrain.py",
        f"--data.train=[{{'shards': '{train}'}}]",
        f"--data.val={train}",
        "--data.workers=2",
        f"--output_dir={tmp_path / 'run'}",
        "--model.image.image_size=32",
        "--model.image.overrides={embed_dim: 32, depth: 1, num_heads: 2}",
        f"--model.text.tokenizer={tmp_path / 'tokenizer'}",
        "--model.text.overrides={hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 64}",
        "--objective.queue_size=20",
        "--train.batch_size=4",
        "--train.steps=8",
        "--train.log_every=1",
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 9))
    assert "2 process(es)" in done.stdout and "7 steps an epoch" in done.stdout and "epoch 1 done" in done.stdout
    checkpoint = tmp_path / "run" / "checkpoints" / "step_00000008"
    assert {"loader_0.json", "loader_1.json", "student.safetensors"} <= {path.name for path in checkpoint.iterdir()}
