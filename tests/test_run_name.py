"""Runs that are given no name: one each, the same on all processes, and found again by what goes on with them."""

import json
import os
import signal
import subprocess
from datetime import date
from pathlib import Path

import pytest
import yaml
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from killing import ranks_of
from launching import ENVIRONMENT, ROOT, TORCHRUN
from small_run import rows, small_run

from tcl.commands.task_options import parse_finetune, parse_pretrain
from tcl.errors import InputError
from tcl.tasks.pretrain import Config as PretrainConfig
from tcl.tasks.pretrain import build as build_pretraining
from tcl.training import run, run_name


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> list[str]:
    return [*small_run(tmp_path_factory.mktemp("small")), "--train.save_every=1"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_name, "date", type("Day", (), {"today": staticmethod(lambda: date(2026, 11, 27))}))
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def train(options: list[str], *more: str) -> Path:
    last = run.train(parse_pretrain([*options, *more]), build_pretraining)
    AcceleratorState._reset_state(reset_partial_state=True)
    return last


def named(pattern: str, resume: str | None = None, *, keep: bool = True) -> str:
    """The folder that a start of this name gets, in which it does something, or nothing."""
    with run_name.named_run(Accelerator(cpu=True), PretrainConfig(output_dir=pattern), resume) as config:
        if keep:
            Path(config.output_dir, "metrics.jsonl").touch()
        return config.output_dir


def test_the_name_is_that_of_the_last_configuration_file(tmp_path):
    Path("a.tar").touch()
    for name in ("first", "second"):
        Path(f"{name}.yaml").write_text(yaml.safe_dump({"data": {"train": [{"shards": "a.tar"}]}}))
    files = ["--config", "first.yaml", "second.yaml"]
    assert parse_pretrain(files).output_dir == "runs/second-{date}-{n}"
    assert parse_pretrain([*files, "--output_dir=mine"]).output_dir == "mine"
    assert parse_pretrain(["--data.train=a.tar"]).output_dir == "runs/pretrain-{date}-{n}"
    Path("second.yaml").write_text("output_dir: said/there\n")
    assert parse_pretrain(["--data.train=a.tar", *files]).output_dir == "said/there"
    assert parse_finetune(["--task=vqa", "--data.train=a.tar"])[0].output_dir == "runs/vqa-{date}-{n}"


def test_every_start_gets_the_first_number_that_is_free():
    pattern = "runs/mine-{date}-{n}"
    assert [named(pattern) for _ in range(2)] == [f"runs/mine-2026-11-27-{n}" for n in (1, 2)]
    Path("runs/mine-2026-11-27-4").mkdir()
    assert [named(pattern) for _ in range(2)] == [f"runs/mine-2026-11-27-{n}" for n in (3, 5)]
    assert named("runs/other-{date}-{n}") == "runs/other-2026-11-27-1" and named("runs/{n}") == "runs/1"
    assert named("runs/by_day-{date}", keep=False) == "runs/by_day-2026-11-27"


def test_a_start_in_which_nothing_was_done_leaves_no_folder(options):
    assert named("runs/mine-{n}", keep=False) == named("runs/mine-{n}", keep=False) == "runs/mine-1"
    with pytest.raises(InputError, match="nowhere"):
        train(options, "--model.text.tokenizer=nowhere")
    assert not any(Path("runs").iterdir())


def test_a_place_where_no_run_can_be_made_is_one_line():
    Path("file").touch()
    with pytest.raises(InputError, match=r"^output_dir: file/a-\{n\} cannot be made \(File exists\); [^\n]*$"):
        named("file/a-{n}")


def test_auto_goes_on_in_the_newest_of_that_name_and_a_checkpoint_in_its_own_run(options):
    def last(*more: str) -> str:
        return str(train(options, "--output_dir=runs/a-{date}-{n}", *more))

    assert last("--train.steps=1") == "runs/a-2026-11-27-1/checkpoints/step_00000001"
    for folder in ("runs/a-2026-11-3-50", "runs/ab-2026-12-01-1", "runs/a-2026-11-27-1x"):
        Path(folder).mkdir()
    assert last("--train.steps=1") == "runs/a-2026-11-27-2/checkpoints/step_00000001"
    assert last("--train.steps=2", "--train.resume=auto") == "runs/a-2026-11-27-2/checkpoints/step_00000002"
    first = Path("runs/a-2026-11-27-1/checkpoints/step_00000001")
    assert Path(last("--train.steps=2", f"--train.resume={first}")) == Path.cwd() / first.with_name("step_00000002")
    assert [row["step"] for row in rows(Path("runs/a-2026-11-27-1"))] == [1, 2]
    assert last("--train.steps=1", "--train.resume=none") == "runs/a-2026-11-27-3/checkpoints/step_00000001"
    again = str(train(["--config=runs/a-2026-11-27-3/config.yaml"], "--train.steps=2"))
    assert again == "runs/a-2026-11-27-3/checkpoints/step_00000002"


def test_numbers_count_as_numbers_and_days_before_them():
    for folder in ("runs/a-2026-11-27-10", "runs/a-2026-11-27-9", "runs/a-2026-11-26-11"):
        Path(folder).mkdir(parents=True)
    assert named("runs/a-{date}-{n}", "auto") == "runs/a-2026-11-27-10"


def test_a_mirror_has_the_run_that_a_new_folder_goes_on_with(options):
    given = ["--output_dir=runs/a-{date}-{n}", "--train.mirror=elsewhere"]
    train(options, *given, "--train.steps=1")
    assert train(options, *given, "--train.steps=2") == Path("runs/a-2026-11-27-2/checkpoints/step_00000002")
    assert [row["step"] for row in rows(Path("runs/a-2026-11-27-2"))] == [1, 2]


def test_a_slurm_job_that_is_queued_again_goes_on_in_its_run(monkeypatch):
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert [named("{n}"), named("{n}")] == ["1", "2"]
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert named("{n}") == "2"
    monkeypatch.setenv("SLURM_STEP_ID", "1")
    assert named("{n}") == "3"
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    assert named("{n}") == "4"


def launched(options: list[str], folder: Path, *launcher: str) -> subprocess.Popen:
    """Two gloo processes of a run that is given no name, started in `folder`. What torchrun's processes meet by is one
    store for all their starts unless it is told otherwise, and those of the second would look for the first's."""
    script = [str(ROOT / "pretrain.py"), *options]
    return subprocess.Popen(
        [*TORCHRUN, *launcher, *script],
        cwd=folder,
        env=ENVIRONMENT | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_starts_at_the_same_moment_of_two_processes_each(options, tmp_path):
    both = [launched([*options, "--train.steps=2"], tmp_path) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    runs = sorted(path.name for path in Path("runs").iterdir())
    assert len(runs) == 2 and [name[-2:] for name in runs] == ["-1", "-2"]
    for name in runs:
        assert [row["step"] for row in rows(Path("runs", name))] == [1, 2]
        progress = json.loads(Path("runs", name, "checkpoints", "step_00000002", "progress.json").read_text())
        assert len(progress["loaders"]) == 2
    assert {line for one in said for line in one.splitlines() if line.startswith("run: ")} == {
        f"run: runs/{name}" for name in runs
    }


@pytest.mark.slow
def test_processes_that_torchrun_starts_anew_go_on_in_the_same_run(options, tmp_path):
    more = ["--train.steps=8", "--train.keep_checkpoints=10"]
    process = launched([*options, *more], tmp_path, "--max_restarts=1", "--monitor_interval=0.1")
    said = ""
    for line in process.stdout:
        said += line
        if "saved " in line and "step_00000002" in line:
            os.kill(ranks_of(process)[1], signal.SIGKILL)
            break
    said += process.communicate()[0]
    assert process.returncode == 0, said
    (folder,) = Path("runs").iterdir()
    assert said.count(f"run: runs/{folder.name}\n") == 2 and "resumed from runs/" in said
    assert max(row["step"] for row in rows(folder)) == 8
