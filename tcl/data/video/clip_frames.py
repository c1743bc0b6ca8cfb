"""The frames of a clip as the pixels of views: in each of them the same cut, flip and colours in all frames."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from av.video.frame import VideoFrame
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
    """As `clip_views`, of one view."""
    (frames,), window = clip_views(media, video, [draw], place=place, part=part)
    return frames, window


def clip_views(
    media: Media, video: VideoConfig, draws: Sequence[DrawView], *, place: float, part: Span | None
) -> tuple[list[Tensor], Span]:
    """A clip at `place` (0 to 1) of `part` of a video, or of all of it, decoded once: for each of `draws` a view
    [T, 3, size, size] uint8; and its seconds.

    BadSample: no video, or one that cannot be decoded.
    """
    if media.video is None:
        raise BadSample(NO_VIDEO_TRACK)
    window, packets = find_clip(media, media.video, video.frames / video.fps, place, part)
    times = frame_times(window, video.frames, video.fps)
    views: list[_View] = []
    for places, frame in frames_at(media, packets, times):
        views = views or [_View(frame, draw(*upright_size(frame)), video.frames) for draw in draws]
        for view in views:
            view.show(places, frame)
    return [torch.from_numpy(view.frames).permute(0, 3, 1, 2) for view in views], window


class _View:
    """`frames` [T, size, size, 3] uint8, which are filled as they are decoded; `first` is one of them."""

    def __init__(self, first: VideoFrame, steps: list[Step], count: int):
        (_, (box, size)), *self.steps = steps
        self.picture = FramePicture(first, box, size)
        self.frames = np.empty((count, size, size, 3), np.uint8)

    def show(self, places: list[int], frame: VideoFrame) -> None:
        pixels = self.picture(frame)
        for operation, values in self.steps:
            pixels = operation(pixels, *values)
        self.frames[places] = pixels


def still_frames(pixels: np.ndarray, video: VideoConfig, draw: DrawView) -> Tensor:
    """A picture [H, W, 3] uint8 as a clip in which nothing moves, [T, 3, size, size] uint8."""
    for operation, values in draw(pixels.shape[1], pixels.shape[0]):
        pixels = operation(pixels, *values)
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).expand(video.frames, -1, -1, -1)
