"""What a run that goes on says of its options, what it refuses, and what it leaves of its history."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from data_files import pairs, write_tar
from safetensors.torch import load_file, save_file
from small_run import contents, rows, small_run, train

from tcl.checkpoints.manifest import MANIFEST, write_manifest
from tcl.checkpoints.run_folder import facts_of_run
from tcl.commands.task_options import parse_pretrain
from tcl.data.texts.vocabulary import train_tokenizer
from tcl.errors import InputError


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> list[str]:
    return small_run(tmp_path_factory.mktemp("small"))


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(scope="module")
def begun(options, tmp_path_factory) -> Path:
    """A run of 2 steps."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    train(options, folder, "--train.steps=2")
    AcceleratorState._reset_state(reset_partial_state=True)
    return folder


@pytest.fixture
def folder(begun, tmp_path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "run"))


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--optim.lr=0.01", r"optim\.lr \(was 0\.0001, is 0\.01\)"),
        ("--objective.momentum=0.5", r"objective\.momentum \(was 0\.995, is 0\.5\)"),
        ("--objective.itm_weight=0", r"objective\.itm_weight \(was 1\.0, is 0\.0\)"),
        ("--data.max_tokens=9", r"data\.max_tokens \(was 25, is 9\)"),
        ("--model.image.mean=[0.1,0.1,0.1]", r"model\.image\.mean \(was None, is \[0\.1, 0\.1, 0\.1\]\)"),
        ("--model.embed_dim=16", r"model\.embed_dim \(was 8, is 16\)"),
        ("--optim.betas=[0.9,0.9]", r"optim\.betas \(was \[0\.9, 0\.999\], is \[0\.9, 0\.9\]\)"),
    ],
)
def test_options_that_change_what_weights_mean_are_refused_and_nothing_is_written(options, folder, option, said):
    before = contents(folder)
    with pytest.raises(InputError, match=rf"^train\.resume: not given, .*{said}.*--train\.resume auto[^\n]*$"):
        train(options, folder, "--train.steps=4", option)
    assert contents(folder) == before


def test_other_words_are_refused_but_another_place_of_the_same_is_not(options, folder, tmp_path, capsys):
    (given,) = [one for one in options if "tokenizer" in one]
    copied = shutil.copytree(given.partition("=")[2], tmp_path / "copied")
    shards = write_tar(tmp_path / "0.tar", [(f"{i}.txt", b"other words entirely xyz") for i in range(9)])
    train_tokenizer(str(shards), tmp_path / "other", vocab_size=100)
    with pytest.raises(InputError, match=r"^train\.resume: not given, .*words of model\.text\.tokenizer"):
        train(options, folder, "--train.steps=3", f"--model.text.tokenizer={tmp_path / 'other'}")
    train(options, folder, "--train.steps=3", f"--model.text.tokenizer={copied}")
    assert f"model.text.tokenizer  {given.partition('=')[2]}  {copied}" in capsys.readouterr().out


def test_given_explicitly_a_run_goes_on_says_what_changed_and_keeps_its_history(options, folder, capsys):
    more = ["--train.steps=4", "--optim.lr=0.01", "--train.batch_size=8", "--train.log_every=2"]
    last = train(options, folder, "--train.resume=auto", *more)
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["option", "was", "is"] in printed
    for row in (["optim.lr", "0.0001", "0.01"], ["train.batch_size", "4", "8"], ["train.steps", "2", "4"]):
        assert row in printed
    assert not any(row[:1] == ["train.resume"] for row in printed)
    saved = parse_pretrain(["--config", str(folder / "config.yaml")])
    assert saved.optim.lr == 0.01 and saved.train.resume is None
    assert {path.name for path in (folder / "history").iterdir()} == {"step_00000000.yaml", "step_00000002.yaml"}
    first = parse_pretrain(["--config", str(folder / "history" / "step_00000000.yaml")])
    assert (first.optim.lr, first.train.batch_size) == (0.0001, 4)
    now = facts_of_run(folder, last)
    assert now.options["optim.lr"] == "0.0001 up to step 2, then 0.01"
    assert now.options["train.batch_size"] == "4 up to step 2, then 8" and now.options["seed"] == 0
    before = facts_of_run(folder, last.with_name("step_00000002"))
    assert (before.options["optim.lr"], before.options["train.batch_size"]) == (0.0001, 4)


def test_a_run_that_branches_off_takes_the_history_along(options, begun, tmp_path):
    branch = tmp_path / "branch"
    start = begun / "checkpoints" / "step_00000002"
    last = train(options, branch, "--train.steps=3", "--optim.lr=0.01", f"--train.resume={start}")
    assert facts_of_run(branch, last).options["optim.lr"] == "0.0001 up to step 2, then 0.01"


def test_a_run_of_before_there_was_a_history_gets_one(options, folder):
    shutil.rmtree(folder / "history")
    said = yaml.safe_load((folder / "config.yaml").read_text())
    said["train"]["resume"] = "auto"
    (folder / "config.yaml").write_text(yaml.safe_dump(said))
    last = train(options, folder, "--train.steps=3", "--train.batch_size=2")
    assert facts_of_run(folder, last).options["train.batch_size"] == "4 up to step 2, then 2"


@pytest.mark.parametrize("broken", [b"\xff\xfe", b"[1, 2]", b"a: &a [*a]"])
def test_a_configuration_that_cannot_be_read_asks_to_be_passed_over(options, folder, broken):
    (folder / "config.yaml").write_bytes(broken)
    with pytest.raises(InputError, match=r"config\.yaml.*--train\.resume auto$"):
        train(options, folder, "--train.steps=3")
    assert (folder / "config.yaml").read_bytes() == broken
    assert train(options, folder, "--train.steps=3", "--train.resume=auto").name == "step_00000003"


@pytest.mark.parametrize("mistake", ["--data.train=[{'shards': '{}/bad.tar'}]", "--model.text.tokenizer={}/nowhere"])
def test_a_mistake_found_late_has_overwritten_nothing(options, folder, tmp_path, mistake):
    """Not even where it is the first batch that cannot be read."""
    write_tar(tmp_path / "bad.tar", [(f"{i}.jpg", b"junk") for i in range(8)])
    (folder / "checkpoints").rename(tmp_path / "checkpoints")  # it starts from the beginning, in a folder with a past
    before = contents(folder)
    with pytest.raises(InputError):
        train(options, folder, "--train.steps=9", mistake.replace("{}", str(tmp_path)))
    assert contents(folder) == before


def test_rows_that_are_damaged_are_moved_aside_and_named(options, folder, capsys):
    path = folder / "metrics.jsonl"
    good = path.read_bytes().splitlines()
    bad = [b'{"loss": 1.0}', b"\xff\xfe\x00", b'{"step": "2"}', b"[" * 100_000, b"7", b'{"step": 2, "lo']
    path.write_bytes(b"\n".join([good[0], *bad[:-1], *good[1:], bad[-1]]))
    train(options, folder, "--train.steps=3")
    assert [row["step"] for row in rows(folder) if "loss" in row] == [1, 2, 3]
    assert (folder / "metrics.damaged.jsonl").read_bytes().splitlines() == bad
    printed = capsys.readouterr().out
    assert "metrics.jsonl: no rows with a step in lines 2, 3, 4, 5, 6" in printed and "metrics.damaged.jsonl" in printed


def test_another_shard_of_as_many_samples_is_noticed(tmp_path):
    options = small_run(tmp_path)
    train(options, tmp_path / "run", "--train.steps=2")
    shard = tmp_path / "train" / "000001.tar"
    kept = shard.read_bytes()
    write_tar(shard, pairs("t1_", 10))
    assert len(kept) == shard.stat().st_size, "not even its size tells"
    with pytest.raises(InputError, match=r"^data\.train: [^\n]*000001\.tar is not the file that [^\n]*$"):
        train(options, tmp_path / "run", "--train.steps=4")
    shard.write_bytes(kept)
    train(options, tmp_path / "run", "--train.steps=4")


def test_a_batch_larger_than_the_data_is_said(options, tmp_path, capsys):
    train(options, tmp_path, "--train.steps=1", "--train.batch_size=48")
    printed = capsys.readouterr().out
    assert "hold 40 samples" in printed and "pairs repeat within a batch" in printed
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])["step"] == 1


@pytest.mark.parametrize("file", ["student", "teacher", "optimizer"])
def test_weights_that_are_not_finite_are_not_resumed(folder, options, file):
    """Whoever wrote them also wrote a manifest that fits."""
    checkpoint = folder / "checkpoints" / "step_00000002"
    path = checkpoint / f"{file}.safetensors"
    tensors = load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name].view(-1)[0] = torch.nan
    save_file(tensors, path)
    write_manifest(checkpoint, [one for one in checkpoint.iterdir() if one.name != MANIFEST])
    with pytest.raises(InputError, match=rf"^train\.resume: .*{file}\.safetensors.*{re.escape(name)}"):
        train(options, folder, "--train.steps=3")


def test_an_optimiser_that_lacks_a_moment_is_named(folder, options):
    checkpoint = folder / "checkpoints" / "step_00000002"
    tensors = load_file(checkpoint / "optimizer.safetensors")
    del tensors["temperature.exp_avg"]
    save_file(tensors, checkpoint / "optimizer.safetensors")
    write_manifest(checkpoint, [one for one in checkpoint.iterdir() if one.name != MANIFEST])
    with pytest.raises(InputError, match=r"does not fit this model: temperature\.exp_avg is not there, here \(1,\)"):
        train(options, folder, "--train.steps=3")
