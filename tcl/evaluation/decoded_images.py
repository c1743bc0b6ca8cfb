"""Encoded images -> pixels for evaluation, decoded by worker processes while the model is busy."""

from collections.abc import Callable, Iterator, Sequence

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
    loader = DataLoader(
        _Decoded(images, transform, max_pixels),
        batch_sampler=batches,
        num_workers=workers if len(batches) > FEW_BATCHES else 0,
        collate_fn=torch.stack,
        worker_init_fn=prepare_worker,
    )
    yield from decoded(loader, workers="data.workers", batch_size="eval.batch_size")


class _Decoded(Dataset):
    def __init__(self, images: Sequence[bytes], transform: Callable[[np.ndarray], Tensor], max_pixels: int):
        self.images, self.transform, self.max_pixels = images, transform, max_pixels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(decode_image(self.images[index], max_pixels=self.max_pixels))
