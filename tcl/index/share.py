"""The processes that write an index together: each encodes its share, rank 0 alone writes."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed

T = TypeVar("T")
PATIENCE = timedelta(days=7)
"""Of those that wait for rank 0, which may train a search engine."""


@dataclass(frozen=True)
class Share:
    """Of this process; alone it is rank 0 of 1."""

    rank: int = 0
    count: int = 1

    def gather(self, thing: T) -> list[T]:
        """Those of all processes, by rank; [] on others than rank 0."""
        if self.count == 1:
            return [thing]
        things = [None] * self.count if self.rank == 0 else None
        distributed.gather_object(thing, things)
        return things or []

    def agree(self, thing: T) -> T:
        """That of rank 0."""
        if self.count == 1:
            return thing
        things = [thing]
        distributed.broadcast_object_list(things)
        return things[0]


@contextlib.contextmanager
def joined() -> Iterator[Share]:
    """With the processes that torchrun or `accelerate launch` started together with this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield Share()
        return
    distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        yield Share(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()


def own_device(device: str | None) -> str | None:
    """Without a wish, of several GPUs the one that is this process'."""
    if device is None and torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    return device
