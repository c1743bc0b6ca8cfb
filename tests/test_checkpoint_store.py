"""Checkpoints on disk: whatever is broken, filled up or killed, an intact one is found, and it is the right one."""

import itertools
import json
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tcl.checkpoints import checkpoint_store, weights_file
from tcl.checkpoints.checkpoint_store import CheckpointStore, Files, list_checkpoints, newest_intact, pointed_checkpoint
from tcl.checkpoints.manifest import verify
from tcl.errors import InputError

CONTENT = ["loader_0.json", "loader_1.json", "progress.json", "student.safetensors"]


def files(value: int, numel: int = 5) -> Files:
    """A checkpoint that says `value` in each of its files."""
    tensors = {
        "weight": torch.full((numel,), float(value)),
        "queue": torch.full((2, 3), float(value)).bfloat16(),
        "step": torch.tensor(value),
    }
    loaders = {f"loader_{process}.json": [value, process] for process in (0, 1)}  # names that are one bit apart
    return Files({"student.safetensors": tensors}, {"progress.json": {"step": value}, **loaders})


def value_of(path: Path) -> int:
    """The value that every file of a checkpoint agrees on, read without the code under test."""
    tensors = load_file(path / "student.safetensors")
    value = json.loads((path / "progress.json").read_text())["step"]
    for name, expected in files(value, tensors["weight"].numel()).tensors["student.safetensors"].items():
        found = tensors.pop(name)
        assert found.dtype == expected.dtype and torch.equal(found, expected), name
    assert not tensors
    assert [json.loads((path / f"loader_{process}.json").read_text()) for process in (0, 1)] == [[value, 0], [value, 1]]
    return value


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def step(number: int) -> str:
    return f"step_{number:08d}"


def pointer(folder: Path, name: str) -> str:
    return (folder / name).read_text().strip()


@pytest.fixture
def store(tmp_path) -> CheckpointStore:
    """Keeps 3; steps 1 and 2 are written."""
    store = CheckpointStore(tmp_path / "checkpoints", keep=3, asynchronous=False)
    for number in (1, 2):
        store.write(number, files(number))
    return store


@pytest.fixture
def no_fsync(monkeypatch):
    """For tests that write hundreds of checkpoints and are not about power cuts: 30 ms each otherwise."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


# --- what is written, and what stays ---


def test_a_checkpoint_holds_its_files_and_a_manifest_of_them(store):
    path = store.write(5000, files(7))
    assert path == store.folder / "step_00005000" and value_of(path) == 7
    assert names(path) == {*CONTENT, "manifest.json"}
    manifest = json.loads((path / "manifest.json").read_text())
    contents = {name: (path / name).read_bytes() for name in CONTENT}
    assert manifest == {n: {"bytes": len(c), "crc32": f"{zlib.crc32(c):08x}"} for n, c in contents.items()}
    assert pointer(store.folder, "latest") == path.name
    assert verify(path) is None and newest_intact(store.folder) == (path, [])


def test_all_files_are_readable_by_whom_the_umask_allows(store):
    modes = {path.name: path.stat().st_mode for path in (store.folder / step(1)).iterdir()}
    assert set(modes.values()) == {modes["manifest.json"]}, modes


def test_nothing_there_is_no_checkpoint(tmp_path):
    assert newest_intact(tmp_path / "none") == (None, []) and list_checkpoints(tmp_path / "none") == []


def test_the_newest_and_the_best_stay(tmp_path):
    store = CheckpointStore(tmp_path, keep=2, asynchronous=False)
    for number in range(1, 13):
        store.write(number, files(number), is_best=number in (2, 6))
        best = set() if number < 2 else {step(2)} if number < 6 else {step(6)}
        newest = {step(n) for n in (number - 1, number) if n}
        assert {path.name for path in list_checkpoints(tmp_path)} == newest | best
        assert pointer(tmp_path, "latest") == step(number) and {pointer(tmp_path, "best")} == best if best else True
    assert [value_of(path) for path in list_checkpoints(tmp_path)] == [6, 11, 12], "oldest first"
    assert names(tmp_path) == {step(6), step(11), step(12), "latest", "best"}


def test_steps_sort_as_numbers(tmp_path, no_fsync):
    store = CheckpointStore(tmp_path, keep=3, asynchronous=False)
    for number in (99_999_999, 100_000_000):
        store.write(number, files(1))
    assert newest_intact(tmp_path)[0].name == "step_100000000"


def test_other_things_in_the_folder_are_left_alone(store):
    (store.folder / "step_12").mkdir()
    (store.folder / "notes").mkdir()
    (store.folder / "step_00000009").write_text("a file, not a folder")
    for number in (3, 4, 5):
        store.write(number, files(number))
    assert names(store.folder) == {"step_12", "notes", step(9), step(3), step(4), step(5), "latest"}


def test_the_same_step_again_replaces_it(store):
    path = store.write(2, files(20))
    assert value_of(path) == 20 and newest_intact(store.folder) == (path, [])
    assert names(store.folder) == {step(1), step(2), "latest"}


# --- damage ---


def flip(path: Path, bit: int) -> None:
    with open(path, "r+b", buffering=0) as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


@pytest.mark.parametrize("name", [*CONTENT, "manifest.json"])
def test_a_flipped_bit_is_found(store, name):
    path = store.folder / step(2) / name
    every = 1 if name == "manifest.json" else 11  # the manifest has no checksum of its own: each of its bits
    for bit in range(0, path.stat().st_size * 8, every):
        flip(path, bit)
        wrong = verify(path.parent)
        assert wrong is not None, f"bit {bit}"
        if name != "manifest.json":
            assert wrong.startswith(f"{name} is damaged")
        flip(path, bit)
    assert verify(path.parent) is None


@pytest.mark.parametrize("name", [*CONTENT, "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "longer", "a folder"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(store, name, damage):
    path = store.folder / step(2) / name
    content = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes({"empty": b"", "truncated": content[:-1], "longer": content + b"\0"}[damage])
    found, passed_over = newest_intact(store.folder)
    assert value_of(found) == 1
    (line,) = passed_over
    assert str(path.parent) in line and name in line and "\n" not in line


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "3",
        "null",
        "{}",
        '{"a": 3}',
        '{"a": []}',
        '{"a": {"bytes": 0}}',
        "\udcff",
        '{"a": {"bytes": 0, "crc32": 0',
    ],
)
def test_an_invalid_manifest_is_damage(store, text):
    (store.folder / step(2) / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    found, passed_over = newest_intact(store.folder)
    assert value_of(found) == 1 and "manifest.json is damaged" in passed_over[0]


def test_all_damaged_is_none_with_a_line_for_each(store):
    flip(store.folder / step(1) / "progress.json", 3)
    (store.folder / step(2) / "student.safetensors").unlink()
    found, (newer, older) = newest_intact(store.folder)
    assert found is None
    assert newer == f"{store.folder / step(2)}: student.safetensors: No such file or directory"
    assert older.startswith(f"{store.folder / step(1)}: progress.json is damaged")


def test_a_half_written_one_is_reported_and_cleared_at_the_next_write_only(store):
    half = store.folder / f".partial_{step(3)}"
    shutil.copytree(store.folder / step(2), half)
    (half / "manifest.json").unlink()
    shutil.copytree(half, store.folder / f".removed_{step(0)}")
    (store.folder / ".partial_latest").write_text("step_")
    before = tree(store.folder)
    found, passed_over = newest_intact(store.folder)
    assert value_of(found) == 2 and len(passed_over) == 1 and passed_over[0].startswith(f"{half}: half-written")
    assert [path.name for path in list_checkpoints(store.folder)] == [step(1), step(2)]
    assert tree(store.folder) == before, "reading changes nothing"
    store.write(4, files(4))
    assert names(store.folder) == {step(1), step(2), step(4), "latest"}


def test_a_replaced_one_is_put_back_for_a_damaged_one(store):
    """Both are there after a crash between rename and removal; then the disk breaks the new one."""
    new, old = store.folder / step(2), store.folder / f"{step(2)}.replaced"
    shutil.copytree(new, old)
    flip(new / "student.safetensors", 90)
    found, passed_over = newest_intact(store.folder)
    assert found == old and "student.safetensors is damaged" in passed_over[0]
    store.write(3, files(3))
    assert names(store.folder) == {step(1), step(2), step(3), "latest"} and value_of(new) == 2


# --- crashes ---


class Crash(BaseException):
    """As a kill: nothing catches it."""


def crash_at_line(number: int, function) -> bool:
    """Run `function`, but stop before the `number`-th line that it executes in the store; whether it got there."""
    lines = itertools.count()

    def trace(frame, event, argument):
        if frame.f_code.co_filename not in (checkpoint_store.__file__, weights_file.__file__):
            return None
        if event == "line" and next(lines) == number:
            raise Crash
        return trace

    sys.settrace(trace)
    try:
        function()
    except Crash:
        return True
    finally:
        sys.settrace(None)
    return False


@pytest.mark.parametrize("same_step", [False, True], ids=["new", "same"])
def test_a_crash_before_any_line_leaves_an_intact_checkpoint(tmp_path, no_fsync, same_step):
    store = CheckpointStore(tmp_path, keep=1, asynchronous=False)
    best = store.write(1, files(1), is_best=True)
    newest = store.write(2, files(2))
    outcomes, crashed = set(), True
    for line in itertools.count():
        old = int(newest.name[5:])
        new = old if same_step else old + 1
        crashed = crash_at_line(line, lambda new=new: store.write(new, files(-new)))
        if not crashed:
            break
        found, passed_over = newest_intact(tmp_path)
        outcomes.add((found.name.replace(step(old), "old").replace(step(new), "new"), value_of(found) == -new))
        assert value_of(found) in (old, -new) and value_of(best) == 1, f"line {line}"
        assert len(passed_over) <= 1 and all(f".partial_{step(new)}: half-written" in line for line in passed_over)
        if not same_step and pointer(tmp_path, "latest") != step(old):
            assert found.name == pointer(tmp_path, "latest") == step(new), "latest moves once the new one is intact"
        newest = store.write(old + 2, files(old + 2))  # clears up
        assert names(tmp_path) == {best.name, newest.name, "latest", "best"}, f"line {line}"
    assert line > 100, "the trace saw the store's lines"
    replaced = {("old.replaced", False), ("old", True)} if same_step else {("new", True)}
    assert outcomes == {("old", False), *replaced}


def test_a_crash_while_an_old_one_is_removed_leaves_no_half_under_its_name(store, monkeypatch):
    def remove_one_file(path, ignore_errors):
        next(iter(path.iterdir())).unlink()
        raise Crash

    monkeypatch.setattr(shutil, "rmtree", remove_one_file)
    store.keep = 1
    with pytest.raises(Crash):
        store.write(3, files(3))
    left = list_checkpoints(store.folder)
    assert [value_of(path) for path in left] == [2, 3] and [verify(path) for path in left] == [None, None]


def test_a_file_is_on_disk_before_its_name_says_so(store, monkeypatch):
    """What a power cut could undo: a rename whose content is not synced yet."""
    events = []
    fsync, replace = os.fsync, os.replace

    def record_fsync(descriptor):
        events.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
        fsync(descriptor)

    def record_replace(source, target):
        events.append(("rename", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "replace", record_replace)
    store.write(3, files(3), is_best=True)
    partial, folder = f".partial_{step(3)}", store.folder.name
    assert sorted(events[:4]) == [("sync", name) for name in CONTENT]
    assert events[4:] == [
        ("sync", "manifest.json"),
        ("sync", partial),
        ("rename", step(3)),
        ("sync", folder),
        ("sync", ".partial_latest"),
        ("rename", "latest"),
        ("sync", folder),
        ("sync", ".partial_best"),
        ("rename", "best"),
        ("sync", folder),
    ]


def write_until_killed(folder: Path, first: int, same_step: bool, asynchronous: bool, done) -> None:
    store = CheckpointStore(folder, keep=2, asynchronous=asynchronous)
    for value in itertools.count(first):
        store.write(1000 if same_step else value, files(value, numel=20_000))
        if asynchronous:
            store.wait()
        done.send(value)


@pytest.mark.parametrize("same_step", [False, True], ids=["new", "same"])
def test_kill_9_loses_nothing_that_was_written(tmp_path, same_step):
    folder, rng = tmp_path / "checkpoints", random.Random(0)
    context = multiprocessing.get_context("fork")  # importing torch anew for each kill would take a minute
    CheckpointStore(folder, keep=2, asynchronous=False).write(1, files(1), is_best=True)
    value = 2
    for kill in range(10):
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=write_until_killed, args=(folder, value, same_step, kill % 2 == 1, sender))
        child.start()
        sender.close()
        written = [receiver.recv() for _ in range(rng.randint(1, 3))][-1]
        sum(range(rng.randint(0, 400_000)))  # 0 to 8 ms, to hit the next one anywhere
        child.kill()
        child.join()
        found, passed_over = newest_intact(folder)
        assert value_of(found) >= written, f"kill {kill}: {written} had been reported as written"
        assert same_step or found.name == step(value_of(found))
        assert all("half-written" in line or "manifest.json: No such" in line for line in passed_over), passed_over
        assert value_of(folder / pointer(folder, "best")) == 1
        value = value_of(found) + 1
    CheckpointStore(folder, keep=1, asynchronous=False).write(9000, files(9000))
    assert names(folder) == {step(1), step(9000), "latest", "best"}


# --- disks that are full, folders that cannot be written ---


@pytest.fixture
def limit_file_size(monkeypatch):
    """Files of at most so many bytes: a real write that the system refuses."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # CPython 3.11 leaves half of a .pyc that may not grow
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def check_refused(store: CheckpointStore, number: int, too_large: Files, reason: str) -> None:
    before = tree(store.folder)
    with pytest.raises(InputError) as error:
        store.write(number, too_large)
        store.wait()
    message = f"{store.folder}: saving {step(number)} failed: {reason}; the newest good checkpoint is still {step(2)}"
    assert str(error.value) == message
    assert tree(store.folder) == before, "no partial folder, latest where it was"


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("number", [3, 2], ids=["new", "same"])
@pytest.mark.parametrize("kind", ["tensors", "json"])
def test_a_refused_write_leaves_the_last_good_checkpoint(store, limit_file_size, kind, number, asynchronous):
    store = CheckpointStore(store.folder, keep=3, asynchronous=asynchronous)
    too_large = files(3, numel=100_000)
    if kind == "json":
        too_large = Files(files(3).tensors, {"progress.json": "x" * 200_000})
    limit_file_size(100_000)
    check_refused(store, number, too_large, "File too large")
    limit_file_size(resource.RLIM_INFINITY)
    path = store.write(3, files(3))
    store.wait()
    assert value_of(path) == 3 and newest_intact(store.folder) == (path, [])


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if mount is None or subprocess.run([mount, *options], capture_output=True).returncode:
        pytest.skip("not permitted to mount a file system")
    try:
        store = CheckpointStore(disk / "checkpoints", keep=3, asynchronous=False)
        for number in (1, 2):
            store.write(number, files(number, numel=90_000))
        check_refused(store, 3, files(3, numel=90_000), "No space left on device")
        assert value_of(newest_intact(store.folder)[0]) == 2
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as error:
        CheckpointStore(tmp_path / "file" / "checkpoints", keep=1, asynchronous=False).write(1, files(1))
    assert str(error.value) == (
        f"{tmp_path / 'file' / 'checkpoints'}: saving {step(1)} failed: Not a directory; there is no good checkpoint"
    )


def test_a_damaged_newest_is_not_called_good(store, limit_file_size):
    flip(store.folder / step(2) / "progress.json", 0)
    limit_file_size(100_000)
    with pytest.raises(InputError, match=f"the newest good checkpoint is still {step(1)}$"):
        store.write(3, files(3, numel=100_000))


# --- asynchronous ---


def test_asynchronous_writes_the_same_bytes(tmp_path):
    for asynchronous in (False, True):
        store = CheckpointStore(tmp_path / str(asynchronous), keep=2, asynchronous=asynchronous)
        for number in range(1, 6):
            assert store.write(number, files(number), is_best=number == 2) == store.folder / step(number)
        store.wait()
    assert tree(tmp_path / "True") == tree(tmp_path / "False")


def test_asynchronous_returns_before_it_is_written(tmp_path, monkeypatch):
    may_go_on, fsync = threading.Event(), os.fsync

    def held_back(descriptor):
        assert may_go_on.wait(60)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", held_back)
    store = CheckpointStore(tmp_path, keep=2, asynchronous=True)
    path = store.write(1, files(1))
    assert not path.exists() and newest_intact(tmp_path)[0] is None
    may_go_on.set()
    store.wait()
    assert value_of(path) == 1 and newest_intact(tmp_path) == (path, [])


@pytest.mark.parametrize("then", ["write", "wait"])
def test_an_asynchronous_error_surfaces_once_at_the_next_call(store, limit_file_size, then):
    store = CheckpointStore(store.folder, keep=3, asynchronous=True)
    limit_file_size(100_000)
    store.write(3, files(3, numel=100_000))
    with pytest.raises(InputError, match="saving step_00000003 failed: File too large"):
        store.write(4, files(4)) if then == "write" else store.wait()
    store.wait()
    assert newest_intact(store.folder) == (store.folder / step(2), [])


def test_an_interpreter_that_exits_finishes_the_write_and_does_not_hang(tmp_path):
    (tmp_path / "file").write_text("")
    script = f"""
from pathlib import Path
from test_checkpoint_store import CheckpointStore, files
CheckpointStore(Path({str(tmp_path / "file")!r}), 1, True).write(1, files(1))  # fails, and nobody asks
CheckpointStore(Path({str(tmp_path / "good")!r}), 1, True).write(1, files(1, numel=1_000_000))
raise SystemExit(3)
"""
    path = os.pathsep.join(str(p) for p in (Path(__file__).parent, Path(__file__).parents[1]))
    result = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}, capture_output=True, timeout=120
    )
    assert (result.returncode, result.stderr) == (3, b"")
    assert value_of(newest_intact(tmp_path / "good")[0]) == 1


@pytest.mark.parametrize("pointer", ["latest", "best"])
def test_a_pointer_stands_for_its_checkpoint(pointer, tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints", keep=2, asynchronous=False)
    path = store.write(1, files(1), is_best=True)
    assert pointed_checkpoint(store.folder / pointer) == path
    assert pointed_checkpoint(path) is None and pointed_checkpoint(path / "progress.json") is None
    for said in (step(9), "../elsewhere", "", "\0"):
        (store.folder / pointer).write_text(said)
        with pytest.raises(InputError, match=rf"{pointer}: names .*, which is no checkpoint beside it"):
            pointed_checkpoint(store.folder / pointer)
