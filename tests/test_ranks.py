"""The end of one of several processes: told and handed over, but without taking the interpreter down."""

import subprocess
import sys

import pytest
from launching import ENVIRONMENT, ROOT

PROGRAM = """
import atexit
import sys

from torch import distributed

from tcl.commands.ranks import leave_processes


class TakenDown:
    def __del__(self):
        print("taken down")


kept = TakenDown()
atexit.register(print, "handed over")
if len(sys.argv) > 1:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    sys.group = distributed.group.WORLD
print("said")
leave_processes(3)
print("goes on", distributed.is_initialized())
"""


@pytest.mark.parametrize(
    ("world_size", "status", "said"),
    [("2", 3, ["said", "handed over"]), ("1", 0, ["said", "goes on False", "handed over", "taken down"])],
)
@pytest.mark.parametrize("group", [[], ["group"]])
def test_the_end_of_a_process(world_size, status, said, group):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *group],
        cwd=ROOT,
        env=ENVIRONMENT | {"WORLD_SIZE": world_size},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.splitlines()) == (status, said), done.stderr
