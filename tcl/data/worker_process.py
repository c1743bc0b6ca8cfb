"""What loader processes do with signals, in training and in evaluation."""

import signal


def leave_signals_to_the_trainer(worker: int) -> None:
    """A DataLoader's worker_init_fn. Signals that reach the whole process group are the trainer's to answer: it still
    wants batches until it has saved. A second SIGTERM ends a worker, so that one that hangs can be ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))
