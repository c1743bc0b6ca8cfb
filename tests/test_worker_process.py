"""Loader processes: OpenCV's threads in them, and what is told of one that dies, at whatever moment it does."""

import runpy
from collections.abc import Iterator

import cv2
import pytest
import torch
from data_files import config, loader, noise, write_shards
from torch.utils.data import DataLoader

from tcl.data import image_operations
from tcl.data.image_stream import images_of_folder, stream_images
from tcl.data.worker_process import decoded
from tcl.errors import InputError
from tcl.evaluation.decoded_images import decoded_batches

THREADS = 3
DIED = "DataLoader worker (pid 1) is killed by signal: Killed. "
WHILE_HANDING_OVER = [EOFError(), ConnectionResetError("reset by peer"), FileNotFoundError("/torch_1")]


class Broken(Iterator):
    """Hands out batches and raises errors, in the order in which they are given."""

    def __init__(self, *coming: str | Exception):
        self.coming = list(coming)

    def __next__(self):
        if not self.coming:
            raise StopIteration
        first = self.coming.pop(0)
        if isinstance(first, Exception):
            raise first
        return first


@pytest.mark.parametrize("first", [*WHILE_HANDING_OVER, None])
def test_a_death_while_a_batch_is_handed_over_is_told_as_any_other(first):
    raised = [error for error in (first, RuntimeError(DIED)) if error is not None]
    batches = decoded(Broken("a batch", *raised), workers="data.workers", batch_size="eval.batch_size")
    assert next(batches) == "a batch"
    message = (
        "data.workers: a process that decodes images died: DataLoader worker (pid 1) is killed by signal: Killed.  If "
        "memory ran out, lower data.workers or eval.batch_size"
    )
    with pytest.raises(InputError) as error:
        next(batches)
    assert str(error.value) == message


@pytest.mark.parametrize("error", [*WHILE_HANDING_OVER, RuntimeError("CUDA out of memory")])
def test_errors_without_a_death_stay_what_they_are(error):
    with pytest.raises(type(error)) as raised:
        list(decoded(Broken(error), workers="workers", batch_size="batch_size"))
    assert raised.value is error


def test_every_loader_tells_it(tmp_path, monkeypatch):
    noise().save(tmp_path / "a.png")
    images, shards = images_of_folder(tmp_path), write_shards(tmp_path / "shards", [8])
    monkeypatch.setattr(DataLoader, "__iter__", lambda self: Broken(EOFError(), RuntimeError(DIED)))
    of_all = [
        stream_images(images, lambda pixels: pixels, batch_size=1, max_pixels=10**6, workers=1),
        decoded_batches([b""], [[0]], lambda pixels: pixels, max_pixels=10**6, workers=1),
    ]
    for batches, workers in zip(of_all, ("workers", "data.workers"), strict=True):
        with pytest.raises(InputError, match=f"^{workers}: a process that decodes images died: "):
            list(batches)
    with pytest.raises(InputError, match=r"^data\.workers: a loader process died "):
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
        assert [batch.pixels.item() for batch in batches] == [expected] * 4
        assert threads() == THREADS


def test_opencv_has_one_thread_in_a_trainer_that_loads_by_itself(threads, tmp_path):
    next(loader(config(write_shards(tmp_path / "shards", [8]), workers=0)))
    assert threads() == 1
