"""Being told to stop: SIGTERM (Kubernetes, torchrun), SIGUSR1 (Slurm), Ctrl-C end a run at its next step boundary."""

import contextlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed


class StopRequest:
    """Was any process of the run told to stop?"""

    def __init__(self) -> None:
        self.signal: str | None = None

    def anywhere(self, device: torch.device) -> bool:
        """Asked by all processes together, so that all stop after the same step."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return self.signal is not None
        told = torch.tensor(float(self.signal is not None), device=device)
        distributed.all_reduce(told)
        return told.item() > 0


_CTRL_C = b"Ctrl-C: saving at the next step, then stopping; Ctrl-C once more stops at once, without saving\n"


@contextmanager
def listen_for_stop(*, speaks: bool = True) -> Iterator[StopRequest]:
    """Within, the signals no longer kill the process but are noted; a second Ctrl-C kills it. Only in the main thread.

    speaks: this process says what Ctrl-C does.
    """
    request = StopRequest()

    def note(number: int, frame: object) -> None:
        request.signal = signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # at once: even where no Python runs for a while
            if speaks:
                with contextlib.suppress(OSError):
                    os.write(2, _CTRL_C)  # a signal may interrupt a print, which must not be entered again

    former = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
