import os
import subprocess
import sys

import pytest

from tcl.whole_file import partial_of, write_whole

KILLED_WHILE_WRITING = """
import os, sys
from pathlib import Path
from tcl.whole_file import write_whole

def half(out):
    out.write_text("half of the n")
    os.kill(os.getpid(), 9)

write_whole(Path(sys.argv[1]), half)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("the former one")
    return path


def test_readers_see_the_former_file_until_the_new_one_is_whole(file):
    def write(out):
        out.write_text("half")
        assert file.read_text() == "the former one"
        out.write_text("the new one")

    write_whole(file, write)
    assert file.read_text() == "the new one" and list(file.parent.iterdir()) == [file]


def test_a_file_that_is_not_there_is_made(tmp_path):
    write_whole(tmp_path / "new", lambda out: out.write_bytes(b"\0" * 3))
    assert (tmp_path / "new").read_bytes() == b"\0" * 3


@pytest.mark.parametrize("error", [OSError(28, "full"), RuntimeError("of faiss"), KeyboardInterrupt()])
def test_the_former_file_stays_where_writing_fails(file, error):
    def write(out):
        out.write_text("half")
        raise error

    with pytest.raises(type(error)):
        write_whole(file, write)
    assert file.read_text() == "the former one" and list(file.parent.iterdir()) == [file]


def test_the_former_file_stays_where_the_name_cannot_be_given(file, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(PermissionError):
        write_whole(file, lambda out: out.write_text("the new one"))
    assert file.read_text() == "the former one" and list(file.parent.iterdir()) == [file]


def test_of_a_killed_process_half_a_file_is_left_beside_which_the_next_one_replaces(file):
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(file)], check=False)
    assert killed.returncode == -9 and file.read_text() == "the former one"
    assert partial_of(file).read_text() == "half of the n"
    write_whole(file, lambda out: out.write_text("new"))
    assert file.read_text() == "new" and list(file.parent.iterdir()) == [file]


def test_a_link_that_lies_there_is_not_written_through(file, tmp_path_factory):
    other = tmp_path_factory.mktemp("elsewhere") / "other"
    other.write_text("of somebody else")
    partial_of(file).symlink_to(other)
    write_whole(file, lambda out: out.write_text("new"))
    assert file.read_text() == "new" and not file.is_symlink() and other.read_text() == "of somebody else"


def test_a_pipe_that_lies_there_is_not_waited_for(file):
    os.mkfifo(partial_of(file))
    write_whole(file, lambda out: out.write_text("new"))
    assert file.read_text() == "new" and file.is_file()


def test_the_file_is_on_the_disk_before_it_has_its_name(file, monkeypatch):
    done = []
    real_sync, real_replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append("sync"), real_sync(number)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("name"), real_replace(*names)))
    write_whole(file, lambda out: out.write_text("new"))
    assert done == ["sync", "name"]
