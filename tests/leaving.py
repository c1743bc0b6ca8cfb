"""Run by tests/faults/test_leaving.py: a process whose loader workers are busy for ever, and that leaves in some way.

python tests/leaving.py WAY LOADER BUSY START FOLDER

WAY: one of WAYS. LOADER: evaluation, encode, training or vqa. BUSY: read (of a pipe that nobody writes to) or decode.
START: how processes start, fork or spawn. It prints the process ids of its workers before it leaves.
"""

import hashlib
import json
import multiprocessing
import os
import signal
import sys
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from data_files import config, loader
from tiny_pretrained import tiny_vqa
from torch.utils.data import get_worker_info

from tcl.commands.one_line import end_with_one_line
from tcl.data.images.read_images import images_of_folder, stream_images
from tcl.data.sets.question_set import QuestionSet
from tcl.data.texts.question import Asked
from tcl.errors import InputError
from tcl.evaluation.answer_questions import answer_questions
from tcl.evaluation.decoded_images import decoded_batches

kept = []
"""A global that outlives everything."""


def block(busy: str, fifo: Path, first: Path, pixels) -> torch.Tensor:
    """A transform: the first image of each worker is done at once, and every other one never."""
    try:
        os.close(os.open(f"{first}{get_worker_info().id}", os.O_CREAT | os.O_EXCL))
        return torch.zeros(3, 32, 32)
    except FileExistsError:
        pass
    if busy == "read":
        fifo.read_bytes()
    while True:
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # one call into C that takes half an hour


def batches_of(kind: str, busy: str, folder: Path):
    transform = partial(block, busy, folder / "fifo", folder / "first")
    if kind == "evaluation":
        content = (folder / "0.png").read_bytes()
        return decoded_batches([content], [[0]] * 8, transform, max_pixels=10**6, workers=2)
    if kind == "encode":
        return stream_images(images_of_folder(folder), transform, batch_size=1, max_pixels=10**6, workers=2)
    # What there is of the shard arrives, and then nothing; sizes.json, which is read by the same command, ends.
    command = f"f={folder}/one.tar; cat $f; case $f in *sizes*) ;; *) cat {folder}/fifo;; esac"
    return loader(config(f"pipe:{command}", workers=1, shuffle_buffer=1), batch_size=1)


def answer_badly(busy: str, folder: Path) -> None:
    model, image = tiny_vqa(), (folder / "0.png").read_bytes()
    questions = QuestionSet([image] * 8, [Asked(i, "a dog", (), None, None) for i in range(8)], list(range(8)))

    def answer(asked):
        show_workers()
        raise RuntimeError("nobody knows")

    answer_questions(
        Accelerator(cpu=True),
        model.student.averaged,
        questions,
        lambda texts: (torch.tensor([[2, 5]]), torch.ones(1, 2, dtype=torch.int64)),
        partial(block, busy, folder / "fifo", folder / "first"),
        answer,
        batch_size=1,
        max_pixels=10**6,
        workers=2,
    )


def show_workers() -> None:
    print(json.dumps([child.pid for child in multiprocessing.active_children()]), flush=True)


def exception(batches) -> None:
    raise RuntimeError("nobody knows")


def input_error(batches) -> None:
    def fail(arguments: list[str]) -> None:
        raise InputError("data.max_bad_fraction: too many")

    end_with_one_line(fail, [])


def told(number: int, batches) -> None:
    os.kill(os.getpid(), number)
    signal.pause()


def held_by_a_traceback(batches) -> None:
    try:
        exception(batches)
    except RuntimeError as error:
        kept.append(error)


def closed(batches) -> None:
    batches.close()


WAYS = {
    "exception": exception,
    "input_error": input_error,
    "sys.exit": lambda batches: sys.exit(3),
    "ctrl-c": partial(told, signal.SIGINT),
    "kill": partial(told, signal.SIGKILL),
    "global": lambda batches: None,
    "traceback": held_by_a_traceback,
    "closed": closed,
}


def leave(way: str, kind: str, busy: str, folder: Path) -> None:
    if kind == "vqa":
        answer_badly(busy, folder)
    batches = batches_of(kind, busy, folder)
    kept.append(batches)
    next(batches)
    show_workers()
    WAYS[way](batches)


if __name__ == "__main__":
    way, kind, busy, method, name = sys.argv[1:]
    torch.multiprocessing.set_start_method(method)
    if way == "within a child":  # as notebook_launcher and torch.multiprocessing.spawn have it
        child = multiprocessing.Process(target=leave, args=("exception", kind, busy, Path(name)))
        child.start()
        child.join()
    else:
        leave(way, kind, busy, Path(name))
