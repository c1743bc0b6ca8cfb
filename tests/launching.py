"""Starts scripts of this project the way a user would: in processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")},
    "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONFAULTHANDLER": "1",  # where a process was that a library aborted
}


def launch(*arguments: str) -> subprocess.CompletedProcess:
    """`arguments` (script and options) on two processes."""
    return subprocess.run([*TORCHRUN, *arguments], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
