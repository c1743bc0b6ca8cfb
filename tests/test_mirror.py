"""train.mirror: a run that has lost its disk goes on from the copy, as if nothing had happened."""

import errno
import os
import shutil
from pathlib import Path

import fsspec
import pytest
from accelerate.state import AcceleratorState
from small_run import rows, small_run, train

from tcl.checkpoints.checkpoint_store import list_checkpoints
from tcl.checkpoints.manifest import MANIFEST, verify
from tcl.checkpoints.mirror import Mirror, fetch
from tcl.errors import InputError

UNLIKE = ("samples_per_second", "data_wait", "eta_seconds")
"""Of a row of metrics.jsonl, what no two runs have in common."""


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> list[str]:
    return [*small_run(tmp_path_factory.mktemp("small")), "--train.save_every=1", "--train.keep_checkpoints=2"]


@pytest.fixture(autouse=True)
def _fresh_accelerate_state():
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    fsspec.filesystem("memory").store.clear()


def trained(options: list[str], folder: Path, *more: str) -> Path:
    last = train(options, folder, *more)
    AcceleratorState._reset_state(reset_partial_state=True)
    return last


def told(folder: Path) -> list[dict]:
    return [{name: value for name, value in row.items() if name not in UNLIKE} for row in rows(folder)]


@pytest.mark.parametrize("where", ["a folder", "memory"])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_run_whose_disk_is_lost_goes_on_from_the_mirror(options, tmp_path, where, asynchronous, capsys):
    mirror = str(tmp_path / "elsewhere" / "mine") if where == "a folder" else "memory://elsewhere/mine"
    more = [f"--train.mirror={mirror}", f"--train.save_asynchronously={asynchronous}"]
    whole = trained(options, tmp_path / "whole", "--train.steps=5")
    trained(options, tmp_path / "run", "--train.steps=3", *more)
    shutil.rmtree(tmp_path / "run")
    last = trained(options, tmp_path / "run", "--train.steps=5", *more)
    assert "fetched from " in capsys.readouterr().out
    for name in ("student", "teacher", "optimizer"):
        assert (last / f"{name}.safetensors").read_bytes() == (whole / f"{name}.safetensors").read_bytes()
    assert told(tmp_path / "run") == told(tmp_path / "whole")
    files, root = fsspec.core.url_to_fs(mirror)
    there = {path[len(root) :].lstrip("/") for path in files.find(root)}
    here = {path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert there == {name for name in here if not name.startswith(".")}
    for name in there:
        assert files.cat_file(f"{root}/{name}") == (tmp_path / "run" / name).read_bytes()


def test_what_the_run_has_is_not_fetched_and_old_checkpoints_go(options, tmp_path, capsys):
    mirror = tmp_path / "mirror"
    trained(options, tmp_path / "run", "--train.steps=4", f"--train.mirror={mirror}")
    assert [path.name for path in list_checkpoints(mirror / "checkpoints")] == ["step_00000003", "step_00000004"]
    trained(options, tmp_path / "run", "--train.steps=5", f"--train.mirror={mirror}")
    assert "fetched from" not in capsys.readouterr().out
    assert [path.name for path in list_checkpoints(mirror / "checkpoints")] == ["step_00000004", "step_00000005"]


def test_a_copy_without_its_manifest_or_damaged_is_passed_over(options, tmp_path):
    mirror = tmp_path / "mirror"
    trained(options, tmp_path / "run", "--train.steps=3", f"--train.mirror={mirror}")
    newest, older = reversed(list_checkpoints(mirror / "checkpoints"))
    (newest / MANIFEST).unlink()
    fetch(str(mirror), tmp_path / "one", goes_on=True)
    assert [path.name for path in list_checkpoints(tmp_path / "one" / "checkpoints")] == [older.name]
    (older / "student.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match=r"^train\.mirror: every checkpoint is damaged \(.*student\.safetensors has 3"):
        fetch(str(mirror), tmp_path / "two", goes_on=True)
    shutil.copytree(tmp_path / "run" / "checkpoints" / newest.name, newest, dirs_exist_ok=True)
    lines = fetch(str(mirror), tmp_path / "three", goes_on=True)
    assert len(lines) == 2 and older.name in lines[0] and lines[1].endswith(f"1 checkpoints up to {newest.name}")
    assert verify(tmp_path / "three" / "checkpoints" / newest.name) is None


def test_another_run_in_the_mirror_is_not_overwritten(options, tmp_path):
    mirror = tmp_path / "mirror"
    last = trained(options, tmp_path / "run", "--train.steps=2", f"--train.mirror={mirror}")
    for resume in ("none", str(last)):
        with pytest.raises(InputError, match=r"^train\.mirror: .* holds step_00000002 of a run; name another place"):
            train(options, tmp_path / "other", f"--train.mirror={mirror}", f"--train.resume={resume}")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ENOENT])  # a full disk, and a bucket that is gone
def test_a_mirror_that_fails_stops_no_run_and_gets_all_later(tmp_path, monkeypatch, number):
    run, mirror = tmp_path / "run", tmp_path / "mirror"
    (run / "checkpoints").mkdir(parents=True)
    (run / "metrics.jsonl").write_text("{}\n")
    sending = Mirror(str(mirror), run)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as full:
        full.setattr(type(sending.files), "open", refuse)
        assert sending.send_later() is None
        sending._pending.exception()  # wait
        said = sending.send_later()
        assert said.startswith(f"train.mirror: {mirror} lacks the newest of the run (") and os.strerror(number) in said
        sending._pending.exception()
    assert sending.finish() is None and (mirror / "metrics.jsonl").read_text() == "{}\n"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nothing://a/b", r"^train\.mirror: 'nothing://a/b' cannot be reached \(Protocol not known: nothing"),
        ("/proc/version/mine", r"^train\.mirror: /proc/version/mine cannot be used \("),
    ],
)
def test_places_that_are_none(options, tmp_path, url, said):
    with pytest.raises(InputError, match=said):
        train(options, tmp_path / "run", f"--train.mirror={url}")
    assert not (tmp_path / "run").exists()
