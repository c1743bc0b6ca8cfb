"""Evaluation data for retrieval of clips by captions: a RetrievalSet whose images are clips."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from tcl.config.data import DataConfig
from tcl.config.video import VideoConfig
from tcl.data.feed.clip_reader import BAD_PART, LACKS
from tcl.data.images.image_format import IMAGE_EXTENSIONS
from tcl.data.images.normalise import normalise
from tcl.data.media.clip_times import Span
from tcl.data.sets.retrieval_set import RetrievalSet, load_pairs
from tcl.data.shards.bad_sample import BadSample
from tcl.data.shards.sample_keys import VIDEO_EXTENSIONS
from tcl.data.texts.sample_texts import json_of, seconds_in
from tcl.data.video.whole_clip import whole_clip


@dataclass(frozen=True)
class StoredClip:
    """A file of a video or a still, and which seconds of it count."""

    content: bytes
    part: Span | None = None
    """None: all of them."""


def load_clip_set(
    pattern: str,
    data: DataConfig,
    video: VideoConfig,
    size: int,
    *,
    field: str = "data.val",
    max_clips: int | None = None,
) -> RetrievalSet:
    """As `load_retrieval_set`, of clips at `size` pixels: samples KEY.mp4|webm|mkv, or KEY.jpg for a still. All
    captions of a sample are right for the clip in its middle, whatever times they have.

    InputError: no such shards, or no usable clip in them.
    """
    return load_pairs(
        pattern,
        _stored,
        partial(frames_of, data=data, video=video, size=size),
        field=field,
        max_images=max_clips,
        max_words=data.max_words,
        max_sample_bytes=data.max_sample_bytes,
    )


def frames_of(clip: StoredClip, data: DataConfig, video: VideoConfig, size: int) -> Tensor:
    """The clip in the middle, [T, 3, size, size] uint8. BadSample: it cannot be decoded within the limits of `data`."""
    return whole_clip(clip.content, video, size, limits=data.clips, max_pixels=data.max_pixels, part=clip.part)


def clip_pixels(
    clip: StoredClip,
    *,
    data: DataConfig,
    video: VideoConfig,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Tensor:
    """The same as an encoder of these mean and std takes it: [T, 3, size, size] float."""
    return normalise(frames_of(clip, data, video, size), torch.tensor(mean), torch.tensor(std))


def _stored(fields: dict[str, bytes]) -> StoredClip:
    """BadSample: neither a video nor a still."""
    there = [fields[extension] for extension in (*VIDEO_EXTENSIONS, *IMAGE_EXTENSIONS) if extension in fields]
    if not there:
        raise BadSample(LACKS["video"])
    times = seconds_in(json_of(fields), BAD_PART)
    return StoredClip(there[0], None if times[0] is None else Span(*times))
