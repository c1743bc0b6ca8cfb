"""Being told to stop: SIGTERM (Kubernetes, torchrun) and SIGUSR1 (Slurm) end a run at its next step boundary."""

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


@contextmanager
def listen_for_stop() -> Iterator[StopRequest]:
    """Within, the signals no longer kill the process but are noted. Only in the main thread."""
    request = StopRequest()

    def note(number: int, frame: object) -> None:
        request.signal = signal.Signals(number).name

    former = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
