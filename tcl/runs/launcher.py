"""The end of a process whose launcher is gone.

torchrun and `accelerate launch` end their processes when they are told to, but not when they are killed: without this,
two processes would train on for ever with nobody to watch them.
"""

import contextlib
import os
import signal
import sys
import threading

from tcl.shown import shown

LAUNCHED = ("TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION")
"""Variables that torchrun and `accelerate launch` set in the processes that they start, and in no others: what a shell
starts with nohup outlives that shell."""
POLL_SECONDS = 1
GRACE_SECONDS = 20
"""For a step and a checkpoint, between being told to stop and the hard end."""


def watch_launcher() -> None:
    """From now on, if a launcher started this process: when it is gone, stop as on SIGTERM, which saves where there is
    something to save; end hard if that takes longer than GRACE_SECONDS."""
    if any(name in os.environ for name in LAUNCHED):
        threading.Thread(target=_watch, args=(os.getppid(),), name="launcher", daemon=True).start()


def _watch(launcher: int) -> None:
    never = threading.Event()
    while os.getppid() == launcher:
        never.wait(POLL_SECONDS)
    with contextlib.suppress(OSError, ValueError):  # where its output went may be gone as well
        print(shown(f"the launcher (process {launcher}) is gone: stopping as if told to"), file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    never.wait(GRACE_SECONDS)
    os._exit(1)
