"""Loader processes, in training and in evaluation: threads, signals, and what is told of their death."""

import signal
from collections.abc import Iterable, Iterator
from typing import TypeVar

import cv2

from tcl.errors import InputError

T = TypeVar("T")


def prepare_worker(worker: int) -> None:
    """A DataLoader's worker_init_fn. Workers share the cores, so OpenCV has one thread in each.

    Signals that reach the whole process group are the trainer's to answer: it still wants batches until it has saved.
    A second SIGTERM ends a worker, so that one that hangs can be ended."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))


def next_batch(batches: Iterator[T]) -> T:
    """The next of a DataLoader's iterator; DataLoader's own RuntimeError where a worker died, however it did."""
    try:
        return next(batches)
    except (EOFError, ConnectionError, FileNotFoundError):
        # A worker that dies while it hands over a batch breaks that off; asking again tells of its death.
        next(batches, None)
        raise


def decoded(loader: Iterable[T], *, workers: str, batch_size: str) -> Iterator[T]:
    """The batches of a DataLoader whose workers decode images. InputError, naming the options `workers` and
    `batch_size`: one of them died."""
    batches = _started(loader)
    while True:
        try:
            batch = next_batch(batches)
        except StopIteration:
            return
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise InputError(
                f"{workers}: a process that decodes images died: {str(error).splitlines()[0]} If memory ran out, lower "
                f"{workers} or {batch_size}"
            ) from error
        yield batch


def _started(loader: Iterable[T]) -> Iterator[T]:
    """iter(loader), which may fork: meanwhile OpenCV is without threads, for a fork loses them and then waits for
    them."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return iter(loader)
    finally:
        cv2.setNumThreads(threads)
