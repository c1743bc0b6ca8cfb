"""Every way out of a process whose loader workers are busy ends, and takes the workers along."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from data_files import noise, pairs, write_tar
from launching import ENVIRONMENT, ROOT

pytestmark = pytest.mark.slow

SOON = 120
"""Seconds; on a quiet machine it takes ten."""


@pytest.fixture
def folder(tmp_path) -> Path:
    for i in range(4):
        noise(i).save(tmp_path / f"{i}.png")
    os.mkfifo(tmp_path / "fifo")
    whole = write_tar(tmp_path / "one.tar", pairs("", 40)).read_bytes()
    (tmp_path / "one.tar").write_bytes(whole[: whole.rindex(b"0039.txt")])  # no end: the command goes on
    (tmp_path / "sizes.json").write_text(json.dumps({"one.tar": 80}))
    return tmp_path


def leave(*arguments: str) -> tuple[int, str, list[int]]:
    """(exit status, what it said on stderr, workers) of tests/leaving.py, whose workers have ended."""
    with subprocess.Popen(
        [sys.executable, "tests/leaving.py", *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        workers = json.loads(process.stdout.readline() or "[]")
        alive = []
        for worker in workers:
            try:
                alive.append(os.pidfd_open(worker))
            except ProcessLookupError:
                continue
        try:
            # Their ends of the pipes are closed by the last of all processes: the commands of workers, too.
            _, said = process.communicate(timeout=SOON)
            # They are killed on purpose: that is no news, and must not stand where the reason to leave does.
            assert "killed by signal" not in said, said
            for descriptor in alive:
                assert select.select([descriptor], [], [], SOON)[0], "a worker is left"
        finally:
            for worker in workers:
                for kill in (os.killpg, os.kill):
                    try:
                        kill(worker, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
            process.kill()
            for descriptor in alive:
                os.close(descriptor)
    return process.returncode, said, workers


STATUS = {
    "exception": 1,
    "input_error": 2,
    "sys.exit": 3,
    "ctrl-c": -signal.SIGINT,
    "kill": -signal.SIGKILL,
    "global": 0,
    "traceback": 0,
    "closed": 0,
    "within a child": 0,
}


@pytest.mark.parametrize("way", STATUS)
@pytest.mark.parametrize("kind", ["evaluation", "training"])
def test_every_way_out_ends(way, kind, folder):
    status, said, workers = leave(way, kind, "read", "fork", str(folder))
    assert (status, bool(workers)) == (STATUS[way], True), said


@pytest.mark.parametrize("busy", ["read", "decode"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("way", ["exception", "kill"])
def test_whatever_the_workers_do_and_however_they_started(way, method, busy, folder):
    status, said, workers = leave(way, "encode", busy, method, str(folder))
    assert (status, len(workers)) == (STATUS[way], 2), said


def test_an_exception_in_the_evaluation_of_questions(folder):
    status, said, workers = leave("exception", "vqa", "read", "fork", str(folder))
    assert (status, len(workers)) == (1, 2)
    assert said.strip().endswith("RuntimeError: nobody knows")
