"""Loader processes: OpenCV's threads in them, and what is told of one that dies, at whatever moment it does."""

import errno
import gc
import multiprocessing
import os
import pickle
import queue
import re
import runpy
import signal
import struct
import sys
from collections.abc import Iterator

import cv2
import pytest
import torch
from data_files import config, loader, noise, write_shards
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils import signal_handling

from tcl.commands.one_line import end_with_one_line
from tcl.data.feed.worker_process import WorkerDied, decoded, end, next_batch, prepare_worker, start
from tcl.data.images import image_operations
from tcl.data.images.read_images import images_of_folder, stream_images
from tcl.errors import InputError
from tcl.evaluation.decoded_images import decoded_batches

THREADS = 3
KILLED = r"process \d+ was killed by SIGKILL"
BREAKS = [
    EOFError(),
    ConnectionRefusedError(errno.ECONNREFUSED, "refused"),
    ConnectionResetError("reset by peer"),
    BrokenPipeError(),
    FileNotFoundError("/torch_1"),
    OSError(errno.EBADF, "bad file descriptor"),
    pickle.UnpicklingError("pickle data was truncated"),
    multiprocessing.AuthenticationError("digest received was wrong"),
    queue.Empty(),
    RuntimeError("received 0 items of ancdata"),
    RuntimeError("Pin memory thread exited unexpectedly"),
    RuntimeError("DataLoader worker (pid(s) 1) exited unexpectedly"),
]
"""What a worker that dies while it hands over a batch can raise in the process that takes it."""


def die_when_told(told) -> None:
    told.recv()
    os.kill(os.getpid(), signal.SIGKILL)


class Broken(Iterator):
    """Stands for a DataLoader and its iterator: hands out a batch and raises `error`; only then its worker dies."""

    def __init__(self, error: Exception | None):
        here, there = multiprocessing.Pipe()
        worker = multiprocessing.Process(target=die_when_told, args=(there,), daemon=True)
        worker.start()
        self.error, self.here, self._workers, self._shutdown = error, here, [worker], False
        self.coming = ["a batch"]

    def __next__(self):
        if self.coming:
            return self.coming.pop()
        if self.error is None:
            raise StopIteration
        self.here.send("now")
        raise self.error


@pytest.fixture
def broken(request):
    batches = Broken(request.param)
    yield batches
    batches._workers[0].kill()
    batches._workers[0].join()


@pytest.mark.parametrize("broken", BREAKS, indirect=True, ids=lambda error: repr(error))
def test_a_death_while_a_batch_is_handed_over_is_told_as_any_other(broken):
    assert next_batch(broken) == "a batch"
    with pytest.raises(WorkerDied, match=f"^{KILLED}$") as raised:
        next_batch(broken)
    assert raised.value.workers == [0] and raised.value.__cause__ is broken.error


@pytest.mark.parametrize("error", [EOFError(), OSError(errno.ENOSPC, "full"), RuntimeError("CUDA out of memory")])
def test_errors_without_a_death_stay_what_they_are(error):
    def raises():
        yield "a batch"
        raise error

    with pytest.raises(type(error)) as raised:
        list(decoded(raises(), workers="workers", batch_size="batch_size"))
    assert raised.value is error


class Dying(Dataset):
    """Worker 0 dies in one of WAYS when it has made batch 1; worker 1 makes even batches."""

    def __init__(self, way):
        self.way = way

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int):
        if index != 2:
            return torch.full((100,), index)
        return self.way()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class KillsItsPickler:
    def __reduce__(self):
        die()


def results() -> multiprocessing.Queue:
    """The queue by which this worker hands over batches."""
    frame = sys._getframe()
    while "data_queue" not in frame.f_locals:
        frame = frame.f_back
    return frame.f_locals["data_queue"]


def half_a_message() -> None:
    queue = results()
    queue._wlock.acquire()
    os.write(queue._writer.fileno(), struct.pack("!i", 100_000) + b"x")
    die()


def with_the_lock() -> None:
    results()._wlock.acquire()
    die()


def leave() -> None:
    os._exit(7)


WAYS = {
    "at work": (die, KILLED),
    "as it pickles": (KillsItsPickler, KILLED),
    "in half a message": (half_a_message, KILLED),
    "with the lock": (with_the_lock, KILLED),
    "by itself": (leave, r"process \d+ ended with status 7"),
}


def as_it_is(items: list) -> list:
    return items


@pytest.mark.parametrize("way", WAYS)
def test_a_real_worker_that_dies(way):
    what, how = WAYS[way]
    batches = decoded(
        DataLoader(Dying(what), batch_size=1, num_workers=2, collate_fn=as_it_is, worker_init_fn=prepare_worker),
        workers="data.workers",
        batch_size="eval.batch_size",
    )
    # Torch's news of it is a signal, which may come between two batches: then it is the command that tells of it.
    with pytest.raises((InputError, RuntimeError)) as raised:
        list(batches)
    if isinstance(raised.value, InputError):
        message = (
            f"data.workers: a process that decodes images died: {how}. If memory ran out, lower data.workers or "
            "eval.batch_size"
        )
        assert re.fullmatch(message, str(raised.value))
    batches.close()
    assert multiprocessing.active_children() == []


def test_a_worker_that_dies_between_offering_a_batch_and_handing_it_over(capsys):
    batches = start(DataLoader([torch.zeros(9)] * 4, batch_size=None, num_workers=1, worker_init_fn=prepare_worker))
    assert batches._worker_result_queue._reader.poll(None)  # it is offered: its memory is still to be asked for
    (worker,) = batches._workers
    with pytest.raises(RuntimeError) as news:
        os.kill(worker.pid, signal.SIGKILL)
        os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(WorkerDied, match=KILLED):
        next_batch(batches)
    end(batches)

    def fail(arguments: list[str]) -> None:
        raise news.value

    with pytest.raises(SystemExit, match="2"):
        end_with_one_line(fail, [])
    assert capsys.readouterr().err.startswith("error: a loader process died: DataLoader worker (pid")


@pytest.mark.parametrize("way", ["at work", "by itself"])
def test_nothing_of_a_dead_worker_is_in_the_way_of_the_next_iterator(way):
    data = Dying(WAYS[way][0])
    batches = start(DataLoader(data, batch_size=1, num_workers=1, collate_fn=as_it_is, worker_init_fn=prepare_worker))
    with pytest.raises((WorkerDied, RuntimeError)):
        for _ in range(4):
            next_batch(batches)
    address = id(batches)
    end(batches)
    del batches
    gc.collect()
    # What an iterator does that is made where the former one was in memory: torch refuses an id that it still knows.
    signal_handling._set_worker_pids(address, ())
    signal_handling._remove_worker_pids(address)


def fail_in_the_worker():
    raise RuntimeError("nobody knows")


def test_an_error_of_the_data_is_no_death():
    data = Dying(fail_in_the_worker)
    batches = start(DataLoader(data, batch_size=1, num_workers=1, worker_init_fn=prepare_worker))
    with pytest.raises(RuntimeError, match="nobody knows"):
        for _ in range(3):
            next_batch(batches)
    end(batches)


def refuse_in_the_worker():
    raise InputError("data.val: 'x' holds no image; give one that does")


def test_a_mistake_found_in_a_worker_stays_one_line():
    loader = DataLoader(Dying(refuse_in_the_worker), batch_size=1, num_workers=1, worker_init_fn=prepare_worker)
    with pytest.raises(InputError) as refused:
        list(decoded(loader, workers="workers", batch_size="batch_size"))
    assert str(refused.value) == "data.val: 'x' holds no image; give one that does"


def test_no_signal_that_can_be_declined_ends_a_worker_and_it_has_a_session_of_its_own(tmp_path):
    batches = loader(config(write_shards(tmp_path / "shards", [8]), workers=1))
    next(batches)
    worker = batches._stream.reading[0, 0].item()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGTERM):
        os.kill(worker, number)
    for _ in range(20):
        next(batches)
    assert os.getsid(worker) == worker != os.getsid(0)
    batches.close()
    assert multiprocessing.active_children() == []


def test_every_loader_tells_it(tmp_path, monkeypatch):
    noise().save(tmp_path / "a.png")
    images, shards = images_of_folder(tmp_path), write_shards(tmp_path / "shards", [8])

    def broken(self):
        batches = Broken(EOFError())
        batches.coming.clear()
        return batches

    monkeypatch.setattr(DataLoader, "__iter__", broken)
    monkeypatch.setattr("tcl.data.feed.worker_process.end", lambda batches: None)
    of_all = [
        stream_images(images, lambda pixels: pixels, batch_size=1, max_pixels=10**6, workers=1),
        decoded_batches([b""], [[0]], lambda pixels: pixels, max_pixels=10**6, workers=1),
    ]
    for batches, workers in zip(of_all, ("workers", "data.workers"), strict=True):
        with pytest.raises(InputError, match=f"^{workers}: a process that decodes images died: {KILLED}"):
            list(batches)
    with pytest.raises(InputError, match=rf"^data\.workers: a loader process died .*: {KILLED}"):
        next(loader(config(shards)))


@pytest.fixture
def threads():
    """Of OpenCV, as a program that uses it has set them."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(THREADS)
    yield cv2.getNumThreads
    cv2.setNumThreads(before)


def count_threads(pixels) -> torch.Tensor:
    return torch.tensor(cv2.getNumThreads())


def test_opencv_has_one_thread_in_a_worker_and_as_many_as_before_elsewhere(threads, tmp_path):
    runpy.run_path(image_operations.__file__)
    assert threads() == THREADS
    for i in range(4):
        noise(i).save(tmp_path / f"{i}.png")
    images = images_of_folder(tmp_path)
    for workers, expected in ((2, 1), (0, THREADS)):
        batches = stream_images(images, count_threads, batch_size=1, max_pixels=10**6, workers=workers)
        assert [batch.inputs[0].item() for batch in batches] == [expected] * 4
        assert threads() == THREADS


def test_opencv_has_one_thread_in_a_trainer_that_loads_by_itself(threads, tmp_path):
    next(loader(config(write_shards(tmp_path / "shards", [8]), workers=0)))
    assert threads() == 1
