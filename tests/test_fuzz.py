"""The fuzzer: it finds whatever can go wrong, the same seed makes the same inputs, and it finds nothing."""

import os
import random
import subprocess
import sys
import types

import pytest
from launching import ENVIRONMENT, ROOT

from tcl.errors import InputError
from tests.fuzz import run


def fail() -> None:
    raise ValueError("bad")


def refuse() -> None:
    raise InputError("x: bad")


def spin() -> None:
    while True:
        pass


def fill_memory() -> None:
    bytearray(run.MEMORY + 2**28)


def run_a_command() -> None:
    os.system("touch PWNED")


def two_lines() -> None:
    raise InputError("a\nb")


FAULTS = {
    "ValueError: bad": fail,
    "crash: SIGABRT": os.abort,
    "hang: SIGXCPU": spin,
    "memory: ": fill_memory,
    "a command was executed": run_a_command,
    "not one line": two_lines,
    "ended with status 7": lambda: os._exit(7),
    "SystemExit": sys.exit,
}


@pytest.mark.parametrize("expected", FAULTS)
def test_it_finds(expected, tmp_path, monkeypatch):
    kind = types.SimpleNamespace(check=lambda folder: FAULTS[expected]() if folder.name == "case" else refuse())
    monkeypatch.setitem(run.KINDS, "broken", kind)
    monkeypatch.setattr(run, "CPU_SECONDS", 5)
    tried, found = run.try_cases("broken", [tmp_path / "fine", tmp_path / "case", tmp_path / "fine"], tmp_path / "work")
    assert tried == 2 and found is not None and expected in found


def test_a_refusal_is_no_finding(tmp_path, monkeypatch):
    monkeypatch.setitem(run.KINDS, "good", types.SimpleNamespace(check=lambda folder: refuse()))
    assert run.try_cases("good", [tmp_path / "a", tmp_path / "b"], tmp_path / "work") == (2, None)


@pytest.mark.parametrize("name", ["shards", "images", "texts", "annotations", "configs"])
def test_a_seed_makes_the_same_inputs(name, tmp_path):
    (tmp_path / "good").mkdir()
    run.KINDS[name].prepare(tmp_path / "good")
    made = []
    for again in ("a", "b"):
        for number in range(10):
            folder = tmp_path / again / str(number)
            folder.mkdir(parents=True)
            run.KINDS[name].make(tmp_path / "good", folder, random.Random(f"0/{name}/{number}"))
        root = tmp_path / again
        made.append({path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()})
    assert made[0] == made[1] and len(set(made[0].values())) > 5


@pytest.mark.slow
def test_a_minute_of_it_finds_nothing(tmp_path):
    command = [sys.executable, "-m", "tests.fuzz", "--seconds", "60", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
