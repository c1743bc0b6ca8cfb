"""What freed tensors leave stays with the process, where the C library can be told so."""

import ctypes
import os
import platform
import subprocess
import sys

import pytest
from launching import ENVIRONMENT

from tcl.training.host_memory import keep_freed_memory

FREE_200_MB = """
import os
import torch
from tcl.training.host_memory import keep_freed_memory

def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

{call}
before = resident()
tensor = torch.ones(50_000_000)
del tensor
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
@pytest.mark.parametrize(("call", "kept"), [("keep_freed_memory()", True), ("", False)])
def test_freed_memory_stays_resident(call, kept):
    script = [sys.executable, "-c", FREE_200_MB.format(call=call)]
    ran = subprocess.run(script, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert (int(ran.stdout) > 150e6) == kept


@pytest.mark.parametrize("name", ["nt", "posix"])
def test_nothing_happens_where_the_c_library_cannot_be_told(monkeypatch, name):
    def library(path):
        if name == "nt":
            raise TypeError("bad argument type for built-in operation")
        return object()

    with monkeypatch.context() as patched:  # no longer than the call: paths ask for the name, too
        patched.setattr(os, "name", name)
        patched.setattr(ctypes, "CDLL", library)
        keep_freed_memory()
