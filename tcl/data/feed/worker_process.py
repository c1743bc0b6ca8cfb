"""Loader processes, in training and in evaluation: how they start, what is told of their death, and how they end.

A signal that tells a job to stop often reaches every process of it, and the trainer still wants batches until it has
saved: so no signal that can be declined ends a worker, and whoever started it kills it. That holds on every way out:
`end` does it where the batches are no longer wanted, and multiprocessing's own exit handler, which would wait for ever
for a worker that declines its SIGTERM, finds none left.
"""

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import active_children, connection, parent_process, util
from multiprocessing.process import BaseProcess
from typing import TypeVar

import cv2
from torch.utils.data._utils import signal_handling

from tcl.errors import InputError

T = TypeVar("T")

TOLD = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Signals that tell a run to stop."""
PATIENCE = 5.0
"""Seconds that workers have to end by themselves, and that a broken connection has to become a death."""
PARENT_CHECK_SECONDS = 1.0

_NEWS = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)")


class WorkerDied(Exception):
    """A loader process ended before its work was done; says how."""

    def __init__(self, how: str, workers: list[int]):
        super().__init__(how)
        self.workers = workers
        """Their numbers, from 0."""


def prepare_worker(worker: int) -> None:
    """A DataLoader's worker_init_fn. Workers share the cores, so OpenCV has one thread in each.

    A worker and the commands that it starts (`pipe:`) are a session of their own, so that they can be killed together;
    they end by themselves within seconds where the process that started them is gone, even in the midst of a read."""
    cv2.setNumThreads(1)
    os.setsid()
    # A command inherits what is ignored, not what has a handler: it can still be ended by SIGTERM.
    for number in TOLD:
        signal.signal(number, signal.SIG_IGN if number != signal.SIGTERM else lambda number, frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD)
    threading.Thread(target=_end_with, args=(parent_process().pid,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os.killpg(0, signal.SIGKILL)


def start(loader: Iterable[T]) -> Iterator[T]:
    """iter(loader): a DataLoader's, whose worker_init_fn is `prepare_worker` if it has workers. Give it to `end`."""
    # A fork loses OpenCV's threads and then waits for them. Signals wait until workers can decline them.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)
    others = active_children()
    try:
        batches = iter(loader)
    except BaseException:
        _kill([worker for worker in active_children() if worker not in others])
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        cv2.setNumThreads(threads)
    if workers := _workers(batches):
        # Run where the iterator is collected, and by multiprocessing's exit handler before it joins.
        util.Finalize(batches, _abandon, args=(id(batches), workers), exitpriority=100)
    return batches


def next_batch(batches: Iterator[T]) -> T:
    """The next of what `start` returned. WorkerDied: a worker did, however the news arrived.

    One that dies while it hands over a batch breaks that off, which can raise almost anything here: a refused or reset
    connection, half a message, a file that is gone."""
    try:
        return next(batches)
    except StopIteration:
        raise
    except InputError as error:  # torch adds a traceback to what a worker raises
        raise InputError(error.args[0].rpartition(f"{InputError.__name__}: ")[2].strip()) from error
    except Exception as error:
        # Raised by the data in a worker that lives, or by one that is late: there is no death to wait for.
        living = any(text in str(error) for text in ("in DataLoader worker process", "DataLoader timed out"))
        died = death(batches, error, patience=0 if living else PATIENCE)
        if died is None:
            raise
        raise died from error


def death(batches: Iterator | None, error: Exception, patience: float = 0) -> WorkerDied | None:
    """Which workers of what `start` returned are dead, `error` being what was raised meanwhile; None: none of them.

    patience: seconds to wait for one to be."""
    named = {int(pid) for found in _NEWS.findall(str(error)) for pid in found.split(",")}
    workers, deadline = _workers(batches), time.monotonic() + patience
    while True:
        codes = [worker.exitcode for worker in workers]
        dead = [i for i, code in enumerate(codes) if code or (code == 0 and workers[i].pid in named)]
        alive = [worker for worker in workers if worker.exitcode is None]
        if dead:
            return WorkerDied("; ".join(_how(workers[i]) for i in dead), dead)
        ended = connection.wait([worker.sentinel for worker in alive], max(0, deadline - time.monotonic()))
        if not ended:
            return None
        for worker in alive:
            if worker.sentinel in ended:
                worker.join()


def tells_of_death(error: Exception) -> bool:
    """Is it torch's news of a dead worker? That is a signal, and raised wherever the main thread happens to be."""
    return isinstance(error, RuntimeError) and _NEWS.search(str(error)) is not None


def end(batches: Iterator | None) -> None:
    """End the workers of what `start` returned: those that are busy for longer than a moment are killed."""
    workers = _workers(batches)
    if not workers or batches._shutdown:
        return
    # Their end is no news from here on, and nothing is left under this id: the next iterator may have it.
    signal_handling._remove_worker_pids(id(batches))
    batches._worker_pids_set = False
    if any(worker.exitcode for worker in workers):
        # A dead worker may have left a lock taken or a message unfinished: asking politely could wait for ever.
        batches._shutdown = True
        if hasattr(batches, "_pin_memory_thread_done_event"):
            batches._pin_memory_thread_done_event.set()
    else:
        out_of_patience = threading.Timer(PATIENCE, _kill, [workers])
        out_of_patience.start()
        batches._shutdown_workers()
        out_of_patience.cancel()
    _kill(workers)
    for worker in workers:
        worker.join()


def decoded(loader: Iterable[T], *, workers: str, batch_size: str) -> Iterator[T]:
    """The batches of a DataLoader whose workers decode images. InputError, naming the options `workers` and
    `batch_size`: one of them died."""
    batches = start(loader)
    try:
        while True:
            try:
                batch = next_batch(batches)
            except StopIteration:
                return
            except WorkerDied as died:
                raise InputError(
                    f"{workers}: a process that decodes images died: {died}. If memory ran out, lower {workers} or "
                    f"{batch_size}"
                ) from died
            yield batch
    finally:
        end(batches)


def _workers(batches: Iterator | None) -> Sequence[BaseProcess]:
    return getattr(batches, "_workers", ())


def _abandon(batches_id: int, workers: Sequence[BaseProcess]) -> None:
    with contextlib.suppress(ValueError):  # there is an entry at the process's exit alone: torch will look for one then
        signal_handling._remove_worker_pids(batches_id)
        signal_handling._set_worker_pids(batches_id, ())
    _kill(workers)


def _how(worker: BaseProcess) -> str:
    if worker.exitcode < 0:
        return f"process {worker.pid} was killed by {signal.Signals(-worker.exitcode).name}"
    return f"process {worker.pid} ended with status {worker.exitcode}"


def _kill(workers: Sequence[BaseProcess]) -> None:
    """Them and the commands that they started."""
    for worker in workers:
        if worker.exitcode is None:
            for kill in (os.killpg, os.kill):  # one that has just started is in no session of its own yet
                try:
                    kill(worker.pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
