"""A named pipe in place of a file of a run keeps nobody waiting: it is refused in a line, or not needed."""

import os
import shutil
from functools import partial

import pytest

from tcl.commands.main import run
from tests.fuzz import runs
from tests.fuzz.case import run_cases


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return runs.prepare(tmp_path_factory.mktemp("good"))


def use(good, folder) -> None:
    if (folder / "compare").exists():
        run(["compare", str(folder / "compare"), "--out", str(folder / "x.png")])
    else:
        runs.read(good, folder)


@pytest.mark.parametrize("how", ["load", "start", "resume", "compare"])
@pytest.mark.parametrize("name", ["history/step_00000000.yaml", "metrics.jsonl", "model.json", "config.yaml"])
def test_nobody_waits(good, tmp_path, how, name):
    shutil.copytree(good.run, tmp_path / how, symlinks=True)
    if how == "resume":
        shutil.rmtree(tmp_path / how / "checkpoints" / f"step_{runs.STEPS:08d}")
    (tmp_path / how / name).unlink()
    os.mkfifo(tmp_path / how / name)
    assert run_cases(partial(use, good), [tmp_path]) is None
