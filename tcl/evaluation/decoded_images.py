"""Encoded images -> pixels for evaluation, decoded by worker processes while the model is busy."""

from collections.abc import Callable, Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tcl.data.decode import decode_image

FEW_BATCHES = 3
"""Starting processes costs more than decoding so few."""


def decoded_batches(
    images: Sequence[bytes],
    batches: Sequence[Sequence[int]],
    transform: Callable[[Image.Image], Tensor],
    *,
    max_pixels: int,
    workers: int,
) -> Iterator[Tensor]:
    """Pixels [len(batch), 3, H, W] of each batch of indices into `images`, in order. workers: processes, >= 0."""
    dataset = _Decoded(images, transform, max_pixels)
    workers = workers if len(batches) > FEW_BATCHES else 0
    return iter(DataLoader(dataset, batch_sampler=batches, num_workers=workers, collate_fn=torch.stack))


class _Decoded(Dataset):
    def __init__(self, images: Sequence[bytes], transform: Callable[[Image.Image], Tensor], max_pixels: int):
        self.images, self.transform, self.max_pixels = images, transform, max_pixels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(decode_image(self.images[index], max_pixels=self.max_pixels))
