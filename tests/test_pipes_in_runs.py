"""A named pipe in place of a file of a run keeps nobody waiting: there is no writer, nor a reader."""

import multiprocessing
import os
import shutil

import pytest

from tcl.commands.main import run
from tests.fuzz import runs

SOON = 120
"""Seconds; each takes one or two on a quiet machine, and a pipe would be waited for without end."""


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
    process = multiprocessing.get_context("fork").Process(target=use, args=(good, tmp_path))
    process.start()
    process.join(SOON)
    waits = process.is_alive()
    process.kill()
    process.join()
    assert not waits
