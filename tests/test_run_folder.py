"""A run and its output_dir: one run at a time, places that cannot be written, a full disk, trackers, Ctrl-C."""

import os
import select
import signal
import sys
from pathlib import Path

import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from killing import children_of, start, wait_for_step
from launching import ROOT, TORCHRUN
from small_run import contents, rows, small_run, train

from tcl.errors import InputError
from tcl.runs.lock import HOLDER, only_run_in
from tcl.training import run


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> list[str]:
    return small_run(tmp_path_factory.mktemp("small"))


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def command(options: list[str]) -> list[str]:
    return [sys.executable, str(ROOT / "pretrain.py"), *options]


def test_a_second_run_in_the_same_folder_is_refused_until_the_first_is_gone_however_it_went(options, tmp_path):
    """With loader workers, which are copies of the process that holds the lock."""
    first = start([*command(options), "--train.steps=100000", "--data.workers=1", "--train.save_every=1"], tmp_path)
    try:
        wait_for_step(first, 2)
        with pytest.raises(
            InputError, match=rf"^output_dir: [^\n]*\(process {first.pid} on {os.uname().nodename}\)[^\n]*$"
        ):
            train(options, tmp_path)
    finally:
        first.kill()
        first.communicate()
    done = run_steps(tmp_path)
    train(options, tmp_path, f"--train.steps={done + 1}")
    assert run_steps(tmp_path) >= done and not (tmp_path / HOLDER).exists()


def run_steps(folder: Path) -> int:
    return max(row["step"] for row in rows(folder))


def test_the_lock_is_free_after_a_mistake(options, tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        train(options, tmp_path / "run", "--model.text.tokenizer=nowhere")
    train(options, tmp_path / "run", "--train.steps=1")


def test_a_folder_that_was_made_for_nothing_goes_again(tmp_path):
    with pytest.raises(InputError, match="nothing"), only_run_in(Accelerator(cpu=True), tmp_path / "run"):
        raise InputError("nothing can be done")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", ["file", "file/run", "/proc/self/run"])
def test_an_output_dir_that_cannot_be_one(options, tmp_path, place):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"^output_dir: [^\n]*(a folder|no folder|cannot be written)[^\n]*$"):
        train(options, tmp_path / place)
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_dir_that_is_read_only(options, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match=r"^output_dir: [^\n]*cannot be written \(Permission denied\)"):
        train(options, tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_under_the_metrics_is_one_line(options, tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(InputError, match=r"^output_dir: [^\n]*metrics\.jsonl cannot be written \(No space left[^\n]*$"):
        train(options, tmp_path)


@pytest.mark.parametrize("file", [".partial_config.yaml", ".partial_tokenizer"])
def test_a_description_that_cannot_be_written_is_one_line_and_leaves_the_former_one(options, tmp_path, file):
    """A folder where a file should go, and a file where a folder should, stand in for a full disk."""
    train(options, tmp_path, "--train.steps=1")
    kept = {name: of for name, of in contents(tmp_path).items() if "config" in name or "tokenizer" in name}
    if "config" in file:
        (tmp_path / file).mkdir()
    else:
        (tmp_path / file).write_bytes(b"")
    with pytest.raises(InputError, match=r"^output_dir: [^\n]*cannot be written[^\n]*$"):
        train(options, tmp_path, "--train.steps=2")
    assert {name: of for name, of in contents(tmp_path).items() if name in kept} == kept


@pytest.mark.parametrize("blocks", [1, 3])
def test_a_disk_with_no_room_for_the_description_is_one_line(options, tmp_path, blocks):
    """1 KiB is less than config.yaml has, 3 KiB less than the tokenizer. Of a .pyc that may not grow, CPython 3.11
    would leave the first half, which all later tests read."""
    limited = ["bash", "-c", f'ulimit -f {blocks}; PYTHONDONTWRITEBYTECODE=1 exec "$@"', "bash"]
    process = start([*limited, *command(options), "--train.steps=1"], tmp_path)
    last = process.communicate()[0].splitlines()[-1]
    assert process.returncode == 2
    assert last.startswith(f"error: output_dir: {tmp_path} cannot be written (File too large"), last


@pytest.mark.parametrize("tracker", ["wandb", "tensorboard"])
def test_a_tracker_that_is_not_installed_is_refused(options, tmp_path, monkeypatch, tracker):
    for name in ("wandb", "tensorboard", "tensorboardX"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"^train\.trackers: {tracker} is not installed .*tcl-vlp\[trackers\]"):
        train(options, tmp_path, f"--train.trackers=[{tracker}]")


def test_a_tracker_that_does_not_start_is_one_line(options, tmp_path, monkeypatch):
    def refuse(*args):
        raise RuntimeError("no login\nat all")

    monkeypatch.setattr(run.Accelerator, "init_trackers", refuse)
    with pytest.raises(InputError, match=r"^train\.trackers: tensorboard cannot be started \(no login at all\)"):
        train(options, tmp_path, "--train.trackers=[tensorboard]")


def test_ctrl_c_saves_and_a_second_one_stops_at_once(options, tmp_path):
    endless = [*command(options), "--train.steps=100000", "--train.save_every=100000"]
    first = start(endless, tmp_path / "first")
    printed = wait_for_step(first, 2)
    first.send_signal(signal.SIGINT)
    printed += first.communicate()[0]
    assert first.returncode == 75, printed
    assert "Ctrl-C: saving at the next step" in printed and "told to stop (SIGINT); saved " in printed
    assert len(list((tmp_path / "first" / "checkpoints").glob("step_*"))) == 1

    second = start(endless, tmp_path / "second")
    wait_for_step(second, 2)
    os.kill(second.pid, signal.SIGSTOP)  # it answers the first when it goes on, by when the second is there
    second.send_signal(signal.SIGINT)
    os.kill(second.pid, signal.SIGCONT)
    for line in second.stdout:
        if line.startswith("Ctrl-C"):
            second.send_signal(signal.SIGINT)
            break
    second.communicate()
    assert second.returncode in (-signal.SIGINT, 75), "a step is short: it may have saved before the second came"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_ranks_end_when_their_launcher_is_killed(options, tmp_path, launcher):
    """And save themselves."""
    command = TORCHRUN
    if launcher == "accelerate":
        command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes=1"]
    endless = [*command, "pretrain.py", *options, "--train.steps=100000", "--train.save_every=100000"]
    process = start(endless, tmp_path)
    wait_for_step(process, 3)
    ranks = children_of(process.pid)
    assert len(ranks) == (2 if launcher == "torchrun" else 1)
    ends = [os.pidfd_open(pid) for pid in ranks]
    process.kill()
    printed = process.communicate(timeout=60)[0]  # they hold its output open until they end
    assert all(select.select([end], [], [], 60)[0] for end in ends)  # closing it comes a moment before the end
    for end in ends:
        os.close(end)
    assert f"the launcher (process {process.pid}) is gone" in printed
    assert len(list((tmp_path / "checkpoints").glob("step_*"))) == 1
