"""How processes of torchrun or `accelerate launch` end: a mistake is told once, by rank 0, and last by torchrun."""

import atexit
import contextlib
import json
import os
import sys
import time
from datetime import timedelta

PATIENCE = timedelta(seconds=20)
"""How long another rank waits to hear that rank 0 says the same."""


def rank_0_says(line: str) -> bool:
    """Does rank 0 of the processes that were started together tell the same mistake? Then this one need not.

    False on rank 0 itself, and wherever it cannot be known.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return False
    from torch.distributed import TCPStore

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    key = f"tcl/mistake/{attempt}/{line}"
    try:
        store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, timeout=PATIENCE)
        if os.environ["RANK"] == "0":
            store.set(key, "told")
            return False
        store.wait([key])
    except RuntimeError:  # rank 0 fares well, or the launcher is gone
        return False
    return True


def tell_launcher(line: str) -> None:
    """Leave `line` where torchrun looks for the cause that it names at the end of its own report."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        said = {"message": {"message": line, "extraInfo": {"timestamp": str(int(time.time()))}}}
        with open(path, "w", encoding="utf-8") as file:
            json.dump(said, file)


def leave_processes(status: int) -> None:
    """One of several processes that were started together ends here, with `status`; a process alone goes on.

    Nothing that they communicate by may be under way. The interpreter is not taken down: DDP and DeepSpeed hold on to
    process groups that are destroyed, and gloo's threads, which outlive it then, abort now and then (std::terminate;
    8 of 120 ends).
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):  # nobody reads any more
            stream.flush()
    os._exit(status)
