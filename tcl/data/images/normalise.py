"""8-bit pixels -> what an image encoder takes; done on the device, so that a quarter of the bytes travels there."""

import torch
from torch import Tensor


def normalise(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """[..., 3, H, W] uint8 -> float of the same shape, contiguous: (pixel / 255 - mean) / std; mean and std [3]."""
    floats = pixels.to(torch.float32, memory_format=torch.contiguous_format)
    return floats.sub_(255 * mean.view(3, 1, 1)).div_(255 * std.view(3, 1, 1))
