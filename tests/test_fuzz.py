"""The fuzzer finds what it looks for, and finds nothing in the readers as they are."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tcl.errors import InputError
from tests.fuzz import annotations, configurations, images, media, shards, texts
from tests.fuzz.case import run_cases
from tests.fuzz.mutate import MARKER

ROOT = Path(__file__).parents[1]


def refuse(folder: Path) -> None:
    raise InputError("field: one line")


def refuse_without_a_word(folder: Path) -> None:
    raise InputError("")


def swell(folder: Path) -> None:
    assert len(b"x" * (3 << 30)) == 3 << 30


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda folder: None, None),
        (refuse, None),
        (refuse_without_a_word, "not one line"),
        (lambda folder: [][0], "IndexError"),
        (lambda folder: sys.exit(2), "SystemExit"),
        (lambda folder: os._exit(0), "ended the process with status 0"),
        (lambda folder: os._exit(3), "ended the process with status 3"),
        (lambda folder: os.kill(os.getpid(), signal.SIGSEGV), "crashed: SIGSEGV"),
        (lambda folder: (folder / MARKER).touch(), "a command was run"),
        (swell, "took "),
    ],
)
def test_what_a_reader_must_not_do_is_told(read, said, tmp_path):
    found = run_cases(read, [tmp_path])
    assert found is None if said is None else said in found


@pytest.mark.parametrize("kind", [annotations, configurations, images, media, shards, texts])
def test_the_same_seed_gives_the_same_inputs(kind, tmp_path):
    (tmp_path / "good").mkdir()
    good = kind.prepare(tmp_path / "good")
    contents = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        kind.mutate(good, Random(3), folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        contents.append([(path.name, path.read_bytes()) for path in files])
    assert contents[0] == contents[1] != []


@pytest.mark.slow
def test_nothing_is_found():
    command = [sys.executable, "-m", "tests.fuzz"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
