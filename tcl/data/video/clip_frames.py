"""The frames of a clip as the pixels of one view: the same cut, flip and colours in all of them."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tcl.config.video import VideoConfig
from tcl.data.images.image_operations import Box, resized_crop
from tcl.data.images.view_step import Step
from tcl.data.media.clip_times import Span, frame_times
from tcl.data.media.find_clip import find_clip
from tcl.data.media.frame_picture import FramePicture, upright_size
from tcl.data.media.open_media import NO_VIDEO_TRACK, Media
from tcl.data.media.video_frames import frames_at
from tcl.data.shards.bad_sample import BadSample

DrawView = Callable[[int, int], list[Step]]
"""(width, height) of a picture -> the steps of a view of it, of which the first cuts and scales."""


def whole_view(size: int) -> DrawView:
    """All of a picture, at `size` x `size` pixels."""
    return lambda width, height: [Step(resized_crop, (Box(0, 0, width, height), size))]


def clip_frames(
    media: Media, video: VideoConfig, draw: DrawView, *, place: float, part: Span | None
) -> tuple[Tensor, Span]:
    """A clip at `place` (0 to 1) of `part` of a video, or of all of it: [T, 3, size, size] uint8, and its seconds.

    BadSample: no video, or one that cannot be decoded.
    """
    if media.video is None:
        raise BadSample(NO_VIDEO_TRACK)
    window, packets = find_clip(media, media.video, video.frames / video.fps, place, part)
    times = frame_times(window, video.frames, video.fps)
    frames = picture = None
    for places, frame in frames_at(media, packets, times):
        if picture is None:
            (_, (box, size)), *steps = draw(*upright_size(frame))
            picture = FramePicture(frame, box, size)
            frames = np.empty((video.frames, size, size, 3), np.uint8)
        pixels = picture(frame)
        for operation, values in steps:
            pixels = operation(pixels, *values)
        frames[places] = pixels
    return torch.from_numpy(frames).permute(0, 3, 1, 2), window


def still_frames(pixels: np.ndarray, video: VideoConfig, draw: DrawView) -> Tensor:
    """A picture [H, W, 3] uint8 as a clip in which nothing moves, [T, 3, size, size] uint8."""
    for operation, values in draw(pixels.shape[1], pixels.shape[0]):
        pixels = operation(pixels, *values)
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).expand(video.frames, -1, -1, -1)
