"""Runs that are stopped for real: told to, killed, out of disk. Nothing is lost but the steps since a checkpoint."""

import json
import os
import signal
from pathlib import Path

import pytest
from data_files import write_shards
from killing import (
    STATE,
    children_of,
    differences,
    kill_at_random,
    losses,
    ranks_of,
    run_to_the_end,
    start,
    wait_for_step,
)
from launching import TORCHRUN
from safetensors.torch import load_file

from tcl.checkpoints.checkpoint_store import list_checkpoints, newest_intact
from tcl.data.texts.vocabulary import train_tokenizer

pytestmark = pytest.mark.slow

STEPS = 60


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> list[str]:
    """pretrain.py and the options of a run of a minute, less its output_dir: dropout, augmentation, two sources."""
    folder = tmp_path_factory.mktemp("faults")
    train = [write_shards(folder / name, [20, 20, 20]) for name in ("a", "b")]
    train_tokenizer(train[0], folder / "tokenizer", vocab_size=100)
    sources = ", ".join(
        f"{{'shards': '{shards}', 'weight': {weight}}}" for shards, weight in zip(train, (1, 2), strict=True)
    )
    return [
        "pretrain.py",
        f"--data.train=[{sources}]",
        "--data.workers=1",
        "--data.shuffle_buffer=8",
        "--model.embed_dim=16",
        "--model.image.image_size=32",
        "--model.image.overrides={embed_dim: 32, depth: 1, num_heads: 2}",
        f"--model.text.tokenizer={folder / 'tokenizer'}",
        "--model.text.overrides={hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 64}",
        "--objective.queue_size=20",
        "--train.batch_size=4",
        f"--train.steps={STEPS}",
        "--train.log_every=1",
        "--train.save_every=1",
        "--train.keep_checkpoints=2",
    ]


def python(options: list[str]) -> list[str]:
    return [TORCHRUN[0], *options]


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGUSR1])
def test_told_to_stop_it_saves_at_the_next_step_and_says_so_by_its_exit_code(options, tmp_path, told):
    process = start([*python(options), "--train.save_every=1000"], tmp_path)
    printed = wait_for_step(process, 3)
    os.killpg(process.pid, told)  # as Slurm and shells do: the loader's worker is told as well
    printed += process.communicate()[0]
    assert process.returncode == 75, printed
    (saved,) = list_checkpoints(tmp_path / "checkpoints")
    assert f"told to stop ({told.name}); saved {saved}" in printed
    assert losses(tmp_path)[-1][0] == json.loads((saved / "progress.json").read_text())["step"] < STEPS


def test_all_ranks_stop_when_one_is_told_to(options, tmp_path):
    process = start([*TORCHRUN, *options, "--train.save_every=1000"], tmp_path)
    printed = wait_for_step(process, 3)
    os.kill(ranks_of(process)[1], signal.SIGUSR1)
    printed += process.communicate()[0]
    assert "told to stop (another process was)" in printed and "told to stop (SIGUSR1)" in printed
    assert len(list_checkpoints(tmp_path / "checkpoints")) == 1


def test_a_killed_rank_ends_all_and_is_named(options, tmp_path):
    process = start([*TORCHRUN, *options], tmp_path)
    wait_for_step(process, 3)
    ranks = ranks_of(process)
    os.kill(ranks[1], signal.SIGKILL)
    printed = process.communicate()[0]
    assert process.returncode != 0
    assert "rank      : 1" in printed and "SIGKILL" in printed
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)


def test_a_killed_loader_process_ends_the_run_with_the_shard_it_was_reading(options, tmp_path):
    process = start(python(options), tmp_path)
    printed = wait_for_step(process, 3)
    (worker, *_) = children_of(process.pid)
    os.kill(worker, signal.SIGKILL)
    printed += process.communicate()[0]
    assert process.returncode == 2, printed
    assert "error: data.workers: a loader process died (rank 0, worker 0 at 00000" in printed


def test_a_full_disk_ends_the_run_in_one_line_and_leaves_the_last_good_checkpoint(options, tmp_path):
    started = start([*python(options), "--train.steps=2"], tmp_path)
    assert started.communicate() and started.returncode == 0
    good, _ = newest_intact(tmp_path / "checkpoints")
    largest = max((good / name).stat().st_size for name in STATE)
    limited = ["bash", "-c", f'ulimit -f {largest // 2048}; PYTHONDONTWRITEBYTECODE=1 exec "$@"', "bash"]
    again = start([*limited, *python(options), "--train.steps=4"], tmp_path)
    printed = again.communicate()[0]
    assert again.returncode == 2, printed
    last = printed.splitlines()[-1]
    assert last.startswith("error: ") and "saving step_00000003 failed: File too large" in last
    assert "the newest good checkpoint is still step_00000002" in last
    assert newest_intact(tmp_path / "checkpoints") == (good, [])


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(options, tmp_path):
    run = start([*python(options), "--train.steps=4"], tmp_path)
    assert run.communicate() and run.returncode == 0
    latest = tmp_path / "checkpoints" / "step_00000004"
    expected = {name: tensor.clone() for name, tensor in load_file(latest / "student.safetensors").items()}
    damaged = bytearray((latest / "student.safetensors").read_bytes())
    damaged[-100] ^= 1
    (latest / "student.safetensors").write_bytes(damaged)
    again = start([*python(options), "--train.steps=4"], tmp_path)
    printed = again.communicate()[0]
    assert again.returncode == 0, printed
    assert "damaged checkpoint passed over" in printed and "step_00000004: student.safetensors is damaged" in printed
    assert "resumed from" in printed and "step_00000003" in printed
    weights = load_file(latest / "student.safetensors")
    assert all(weights[name].equal(expected[name]) for name in expected)


def test_killed_at_twenty_random_points_it_ends_as_if_never_stopped(options, tmp_path):
    """Two processes; each time all of them, one rank, or torchrun itself, by SIGKILL or SIGTERM."""
    run_to_the_end([*TORCHRUN, *options], tmp_path / "whole")
    for victim in kill_at_random([*TORCHRUN, *options], tmp_path / "killed", times=20, seed=0):
        assert victim
    run_to_the_end([*TORCHRUN, *options], tmp_path / "killed")
    assert differences(tmp_path / "killed", tmp_path / "whole") == []
