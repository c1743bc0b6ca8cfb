"""A clip and its sound as tutorials of PyAV and torchvision have it: decode the file, pick frames, transform them.

The values of the view are given, so that both sides make the same one.
"""

import io

import av
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from tcl.data.images.image_operations import Box


def decode_video(content: bytes) -> tuple[Tensor, list[float]]:
    """All frames of a video, [N, 3, H, W] uint8, and when each begins, in seconds."""
    with av.open(io.BytesIO(content)) as container:
        frames = [
            (frame.time, torch.from_numpy(frame.to_ndarray(format="rgb24"))) for frame in container.decode(video=0)
        ]
    return torch.stack([pixels for _, pixels in frames]).permute(0, 3, 1, 2), [time for time, _ in frames]


def decode_sound(content: bytes, rate: int) -> np.ndarray:
    """All of a file's sound, mono at `rate`, [n] float32."""
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
    with av.open(io.BytesIO(content)) as container:
        pieces = [piece for frame in container.decode(audio=0) for piece in resampler.resample(frame)]
        pieces += resampler.resample(None)
    return np.concatenate([piece.to_ndarray()[0] for piece in pieces])


def view_of(frames: Tensor, times: list[float], asked: list[float], box: Box, flip: bool, size: int) -> Tensor:
    """Of `frames`, those that are shown at the `asked` seconds, cut, scaled and perhaps flipped: [T, 3, size, size]."""
    begins = np.asarray(times)
    places = [max(0, int(np.searchsorted(begins, time + 1e-4)) - 1) for time in asked]
    clip = F.resized_crop(frames[places], box.top, box.left, box.height, box.width, [size, size], antialias=True)
    return F.horizontal_flip(clip) if flip else clip
