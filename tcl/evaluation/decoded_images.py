"""Encoded images -> pixels for evaluation, decoded by worker processes while the model is busy."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tcl.data.feed.worker_process import decoded, prepare_worker
from tcl.data.images.decode_image import decode_image

FEW_BATCHES = 3
"""Starting processes costs more than decoding so few."""


def decoded_batches(
    images: Sequence[bytes],
    batches: Sequence[Sequence[int]],
    transform: Callable[[np.ndarray], Tensor],
    *,
    max_pixels: int,
    workers: int,
) -> Iterator[Tensor]:
    """Pixels [len(batch), 3, H, W] of each batch of indices into `images`, in order. workers: processes, >= 0.

    InputError: one of them died.
    """
    yield from in_batches(images, batches, partial(_pixels, transform, max_pixels), workers=workers)


def in_batches(
    items: Sequence, batches: Sequence[Sequence[int]], read: Callable[[Any], Tensor], *, workers: int
) -> Iterator[Tensor]:
    """As `decoded_batches`, of whatever `read`, which can be pickled, makes pixels of."""
    loader = DataLoader(
        _Read(items, read),
        batch_sampler=batches,
        num_workers=workers if len(batches) > FEW_BATCHES else 0,
        collate_fn=torch.stack,
        worker_init_fn=prepare_worker,
    )
    yield from decoded(loader, workers="data.workers", batch_size="eval.batch_size")


def _pixels(transform: Callable[[np.ndarray], Tensor], max_pixels: int, image: bytes) -> Tensor:
    return transform(decode_image(image, max_pixels=max_pixels))


class _Read(Dataset):
    def __init__(self, items: Sequence, read: Callable[[Any], Tensor]):
        self.items, self.read = items, read

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Tensor:
        return self.read(self.items[index])
