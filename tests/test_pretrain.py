"""Whole runs of pretrain.py on small shards: it learns, resumes, reports, and stops with one line."""

import json
import random
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from data_files import encode, write_tar
from PIL import Image
from safetensors.torch import load_file
from torch._dynamo.utils import counters

from tcl.commands.task_options import parse_pretrain
from tcl.data.texts.vocabulary import train_tokenizer
from tcl.errors import InputError
from tcl.models import preparation
from tcl.tasks.pretrain import Config as PretrainConfig
from tcl.tasks.pretrain import build as build_pretraining
from tcl.tasks.task import Evaluation
from tcl.training import run
from tcl.training.dry_run import dry_run

ROOT = Path(__file__).parents[1]
COLOURS = {"red": (220, 40, 40), "green": (40, 160, 60), "blue": (40, 80, 220), "white": (250, 250, 250)}
QUARTERS = random.Random(0).sample(list(product(COLOURS, repeat=4)), 256)
HELD_OUT = 64
DROPOUT = "{hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 64}"


def quartered_images(folder: Path, quarters: list[tuple[str, ...]]) -> str:
    """Shards of images whose four quarters have the colours that the caption names, in reading order."""
    folder.mkdir()
    entries = []
    for i, names in enumerate(quarters):
        image = Image.new("RGB", (32, 32))
        for quarter, name in enumerate(names):
            left, top = 16 * (quarter % 2), 16 * (quarter // 2)
            image.paste(COLOURS[name], (left, top, left + 16, top + 16))
        entries += [(f"{i:04d}.png", encode(image, "PNG")), (f"{i:04d}.txt", " ".join(names).encode())]
    write_tar(folder / "000000.tar", entries)
    return str(folder / "*.tar")


@pytest.fixture(scope="module")
def arguments(tmp_path_factory) -> list[str]:
    """The command line of a run that takes seconds, less its output_dir."""
    folder = tmp_path_factory.mktemp("colours")
    train = quartered_images(folder / "train", QUARTERS[HELD_OUT:])
    val = quartered_images(folder / "val", QUARTERS[:HELD_OUT])
    train_tokenizer(train, folder / "tokenizer", vocab_size=100)
    text = (
        "{hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 64, hidden_dropout_prob: 0}"
    )
    augment = ["flip_prob", "color_jitter_prob", "grayscale_prob", "blur_prob", "randaugment_ops"]
    return [
        f"--data.train=[{{'shards': '{train}'}}]",
        f"--data.val={val}",
        "--data.workers=0",
        *(f"--data.augment.{name}=0" for name in augment),
        "--data.augment.crop_scale=[1.0,1.0]",
        "--model.embed_dim=32",
        "--model.lmi_regions=2",
        "--model.image.image_size=32",
        "--model.image.overrides={embed_dim: 32, depth: 2, num_heads: 2}",
        f"--model.text.tokenizer={folder / 'tokenizer'}",
        f"--model.text.overrides={text}",
        "--objective.queue_size=40",
        "--objective.momentum=0.9",
        "--optim.lr=0.003",
        "--optim.warmup_steps=5",
        "--train.batch_size=16",
        "--train.precision=fp32",
        "--train.log_every=5",
        "--eval.rerank_k=4",
    ]


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    """accelerate refuses another precision in the same process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def configure(arguments: list[str], output_dir: Path, *more: str) -> PretrainConfig:
    return parse_pretrain([*arguments, f"--output_dir={output_dir}", *more])


def pretrain(config: PretrainConfig) -> Path:
    return run.train(config, build_pretraining)


def rows(output_dir: Path) -> list[dict]:
    return [json.loads(line) for line in (output_dir / "metrics.jsonl").read_text().splitlines()]


def test_loss_falls_and_recall_beats_chance(arguments, tmp_path):
    pretrain(configure(arguments, tmp_path, "--train.steps=150", "--eval.every=1000"))
    steps = [row for row in rows(tmp_path) if "loss" in row]
    assert steps[-1]["loss"] < 0.7 * steps[0]["loss"]
    before, after = (row for row in rows(tmp_path) if "eval_i2t_r1" in row)
    chance = 100 * 10 / HELD_OUT
    for name in ("eval_i2t_r10", "eval_t2i_r10"):
        assert before[name] < 2 * chance < after[name], (before, after)
    assert {"i2t", "t2i", "imc_image", "imc_text", "lmi_image", "lmi_text", "itm", "mlm"} <= steps[-1].keys()
    assert {"itm_accuracy", "itm_prior", "temperature", "learning_rate", "samples_per_second", "data_wait"} <= steps[
        -1
    ].keys()
    assert {row["samples_seen"] for row in rows(tmp_path) if "samples_seen" in row} == {len(QUARTERS) - HELD_OUT}
    config = parse_pretrain(["--config", str(tmp_path / "config.yaml")])
    assert config.train.steps == 150


@pytest.mark.parametrize("how", [["--data.workers=0"], ["--data.workers=2", "--train.save_asynchronously=true"]])
def test_a_resumed_run_ends_with_the_weights_of_the_uninterrupted_one(arguments, tmp_path, how):
    """With dropout, augmentation and accumulation; student, teacher, queues, moments and losses, bit by bit."""
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    options = [
        *("--train.steps=8", "--train.save_every=4", "--eval.every=100", "--train.log_every=1"),
        *("--train.accumulate_steps=2", "--data.augment.flip_prob=0.5", "--data.augment.randaugment_ops=2"),
        f"--model.text.overrides={DROPOUT}",
        *how,
    ]
    last = pretrain(configure(arguments, whole, *options))
    pretrain(configure(arguments, halved, *options))
    for late in (halved / "checkpoints").glob("step_00000008*"):
        for file in late.iterdir():
            file.unlink()
        late.rmdir()
    resumed = pretrain(configure(arguments, halved, *options))
    assert resumed.name == last.name == "step_00000008"
    for name in ("student.safetensors", "teacher.safetensors", "optimizer.safetensors"):
        ours, theirs = load_file(resumed / name), load_file(last / name)
        assert all(ours[key].equal(theirs[key]) for key in theirs)

    def losses(folder: Path) -> list[tuple[int, float]]:
        return [(row["step"], row["loss"]) for row in rows(folder) if "loss" in row]

    assert losses(halved) == losses(whole)
    assert (resumed / "progress.json").read_text() == (last / "progress.json").read_text()


def test_old_checkpoints_go_and_none_is_left_half_written(arguments, tmp_path):
    options = ["--train.steps=4", "--train.save_every=1", "--train.keep_checkpoints=2", "--eval.every=100"]
    pretrain(configure(arguments, tmp_path, *options))
    names = {"latest", "best", "step_00000003", "step_00000004"}
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == names


def test_the_checkpoint_with_the_best_evaluation_is_kept(arguments, tmp_path, monkeypatch):
    scores = iter([10.0, 30.0, 20.0, 25.0, 5.0])
    options = ["--train.steps=4", "--train.save_every=1", "--train.keep_checkpoints=1", "--eval.every=1"]

    def build(*args):
        return replace(
            build_pretraining(*args), evaluate=lambda *_: Evaluation({}, next(scores), "looked", lambda folder: None)
        )

    run.train(configure(arguments, tmp_path, *options), build)
    kept = {p.name for p in (tmp_path / "checkpoints").iterdir()}
    assert kept == {"latest", "best", "step_00000001", "step_00000004"}
    progress = json.loads((tmp_path / "checkpoints" / "step_00000004" / "progress.json").read_text())
    assert progress["best_score"] == 30.0


def test_an_earlier_checkpoint_of_the_same_run_is_not_resumed_from(arguments, tmp_path):
    pretrain(configure(arguments, tmp_path, "--train.steps=2", "--train.save_every=1"))
    earlier = tmp_path / "checkpoints" / "step_00000001"
    with pytest.raises(InputError, match="step_00000001 is behind step_00000002 of the same run"):
        pretrain(configure(arguments, tmp_path, "--train.steps=3", f"--train.resume={earlier}"))
    branch = tmp_path / "branch"
    assert (
        pretrain(configure(arguments, branch, "--train.steps=2", f"--train.resume={earlier}")).parent.parent == branch
    )


def test_dry_run_prints_the_world_and_reads_every_source(arguments, tmp_path, capsys):
    dry_run(configure(arguments, tmp_path / "run"), build_pretraining)
    printed = capsys.readouterr().out
    assert "world: 1 process(es) on cpu, fp32, one process; global batch 16 = 16 x 1 passes x 1 processes" in printed
    assert "memory per device (estimate): " in printed and "0.1M trained, 0.1M teacher, 0.0M frozen" in printed
    assert "192 samples; first batch: image (16, 3, 32, 32), text of " in printed
    assert not (tmp_path / "run").exists()


def test_a_directory_of_damaged_checkpoints_is_not_started_over(arguments, tmp_path):
    pretrain(configure(arguments, tmp_path, "--train.steps=1"))
    (tmp_path / "checkpoints" / "step_00000001" / "teacher.safetensors").unlink()
    with pytest.raises(InputError, match=r"every checkpoint is damaged .*teacher\.safetensors: No such file"):
        pretrain(configure(arguments, tmp_path, "--train.steps=2"))


def test_resume_errors_name_the_checkpoint(arguments, tmp_path):
    pretrain(configure(arguments, tmp_path, "--train.steps=1"))
    with pytest.raises(InputError, match=r"train\.resume: none, but .*step_00000001 exists"):
        pretrain(configure(arguments, tmp_path, "--train.steps=1", "--train.resume=none"))
    with pytest.raises(InputError, match=r"train\.resume: 'elsewhere' is not a checkpoint"):
        pretrain(configure(arguments, tmp_path, "--train.steps=2", "--train.resume=elsewhere"))
    with pytest.raises(
        InputError, match=r"does not fit this model: encoders\.text_proj\.bias is \(32,\), here \(16,\)"
    ):
        pretrain(configure(arguments, tmp_path, "--train.steps=2", "--model.embed_dim=16", "--train.resume=auto"))


def test_steps_that_stay_non_finite_stop_the_run_and_name_the_losses(arguments, tmp_path, monkeypatch):
    def broken(*args):
        images = original(*args)
        images.view[:] = torch.nan
        return images

    original = preparation.prepare_images
    monkeypatch.setattr(preparation, "prepare_images", broken)
    with pytest.raises(InputError, match=r"max_nonfinite_steps: 3 steps in a row .* i2t.*itm.*optim\.lr"):
        pretrain(configure(arguments, tmp_path, "--train.steps=9", "--train.max_nonfinite_steps=3"))
    assert sum("skipped" in row for row in rows(tmp_path)) == 3


@pytest.mark.parametrize(
    "option",
    ["--train.activation_checkpointing=true", pytest.param("--train.compile=true", marks=pytest.mark.slow)],
)
def test_memory_and_compile_options_change_no_number(arguments, tmp_path, option):
    common = ["--train.steps=2", "--train.log_every=1", "--eval.every=100"]
    pretrain(configure(arguments, tmp_path / "plain", *common))
    counters.clear()
    pretrain(configure(arguments, tmp_path / "option", *common, option))
    assert not counters["graph_break"], "a compiled layer is one graph"
    plain, other = ([row["loss"] for row in rows(tmp_path / d) if "loss" in row] for d in ("plain", "option"))
    assert other == pytest.approx(plain, rel=1e-4)


def test_a_run_may_augment_on_its_device(arguments, tmp_path):
    """Same draws, same views but for rounding."""
    common = ["--train.steps=2", "--train.log_every=1", "--eval.every=100", "--data.augment.randaugment_ops=2"]
    common += ["--data.augment.flip_prob=0.5", "--data.augment.color_jitter_prob=0.8", "--data.augment.blur_prob=0.5"]
    for name in ("true", "false"):
        pretrain(configure(arguments, tmp_path / name, *common, f"--data.augment.on_device={name}"))
    on_device, in_workers = ([row["loss"] for row in rows(tmp_path / d) if "loss" in row] for d in ("true", "false"))
    assert on_device == pytest.approx(in_workers, rel=1e-3)
    assert on_device != in_workers, "rounding does differ"


def test_more_candidates_than_there_are_is_a_note_at_the_start(arguments, tmp_path, capsys):
    pretrain(configure(arguments, tmp_path, "--eval.rerank_k=65", "--train.steps=1", "--eval.every=1"))
    assert "eval.rerank_k: 65, of 64 images and 64 captions; ITM orders 64 captions of each" in capsys.readouterr().out
    assert any("eval_rerank_mean" in row for row in rows(tmp_path))


def test_tensorboard_gets_the_metrics(arguments, tmp_path):
    pretrain(configure(arguments, tmp_path, "--train.steps=1", "--train.trackers=[tensorboard]"))
    assert list(tmp_path.rglob("events.out.tfevents.*"))


def test_bf16_runs_with_fp32_losses_and_teacher(arguments, tmp_path):
    last = pretrain(configure(arguments, tmp_path, "--train.steps=2", "--train.precision=bf16", "--eval.every=100"))
    assert {tensor.dtype for tensor in load_file(last / "teacher.safetensors").values()} <= {torch.float32, torch.int64}


def test_a_command_line_error_is_one_line_with_exit_code_2(arguments, tmp_path):
    command = [sys.executable, "pretrain.py", *arguments, f"--output_dir={tmp_path}", "--model.text.tokenizer=nowhere"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == done.stderr.splitlines()[-1:]
    assert "Traceback" not in done.stderr
