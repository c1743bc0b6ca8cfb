"""One thread that owns the models; requests that wait for it while it is busy go through them together."""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

Owned, Item, Answer = TypeVar("Owned"), TypeVar("Item"), TypeVar("Answer")
Run = Callable[[Owned, Sequence[Item]], Sequence[Answer | Exception]]
"""What the thread owns, and items that go together -> an answer or an exception for each."""


class FullError(Exception):
    """As many requests wait as may."""


@dataclass(frozen=True)
class _Job:
    run: Run
    item: Any
    answer: Future = field(default_factory=Future)


class Batcher(Generic[Owned]):
    """Nobody waits for a batch to fill: it is what came while the one before ran."""

    def __init__(
        self, open_it: Callable[[], Owned], close_it: Callable[[Owned], None], *, waiting: int, together: int = 64
    ):
        """open_it, close_it: what the thread owns, called there. waiting: jobs, at most; together: in one batch, at
        most. What open_it raises is raised here."""
        self._jobs: queue.Queue[_Job | None] = queue.Queue(waiting)
        self._together = together
        self.batches: Callable[[str, int], None] = lambda name, size: None
        """Told of each batch: what it does, and how many items."""
        opened: Future = Future()
        self._thread = threading.Thread(target=self._work, args=(open_it, close_it, opened), name="models", daemon=True)
        self._thread.start()
        opened.result()

    @property
    def waiting(self) -> int:
        """Jobs."""
        return self._jobs.qsize()

    async def ask(self, run: Run, item: Item) -> Answer:
        """The answer to one item, among those that others ask `run` at the same time. A caller that is cancelled gives
        up its place. FullError: no place; else what `run` gave or raised."""
        job = _Job(run, item)
        try:
            self._jobs.put_nowait(job)
        except queue.Full as error:
            raise FullError from error
        return await asyncio.wrap_future(job.answer)

    def close(self) -> None:
        """After all that was asked is answered."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self, open_it: Callable[[], Owned], close_it: Callable[[Owned], None], opened: Future) -> None:
        try:
            owned = open_it()
        except BaseException as error:
            opened.set_exception(error)
            return
        opened.set_result(None)
        ended = False
        while not ended:
            jobs = [self._jobs.get()]
            while len(jobs) < self._together and not self._jobs.empty():
                jobs.append(self._jobs.get())
            ended = None in jobs
            alike: dict[Run, list[_Job]] = {}
            for job in jobs:
                if job is not None and job.answer.set_running_or_notify_cancel():
                    alike.setdefault(job.run, []).append(job)
            for run, some in alike.items():
                self.batches(run.__name__, len(some))
                _answer(owned, run, some)
        close_it(owned)


def _answer(owned: Owned, run: Run, jobs: Sequence[_Job]) -> None:
    try:
        answers = list(run(owned, [job.item for job in jobs]))
    except Exception as error:  # whatever it is, it is theirs who asked, and the thread goes on
        answers = [error] * len(jobs)
    for job, answer in zip(jobs, answers, strict=True):
        if isinstance(answer, Exception):
            job.answer.set_exception(answer)
        else:
            job.answer.set_result(answer)
