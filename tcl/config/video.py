"""Clips: how many frames, and how their encoder sees them together."""

from dataclasses import dataclass
from typing import Literal

from tcl.config.checks import require


@dataclass
class VideoConfig:
    """The encoder of clips: model.image on each frame. The objectives `clips` and `video_text` have one."""

    frames: int = 32
    """Of a clip, 1 to 1024; 1 for photographs. 32 in MMV, 16 in its ablations."""
    fps: float = 10.0
    """Frames a second at which clips are sampled, above 0 to 240. 10 in MMV."""
    temporal: Literal["none", "shift", "attention"] = "shift"
    """How frames see each other. none: not, their mean is the clip. shift: before every block an eighth of the channels
    comes from the next frame and one from the frame before (TSM, as published). attention: every block begins with
    attention over the frames at the same place (divided attention), which starts as nothing."""
    ends: Literal["repeat", "zero"] = "repeat"
    """With shift, what comes from beyond the ends of a clip: the end frame itself, so that a still clip gives what its
    image gives, or zeros, as published."""


def check_video(video: VideoConfig) -> None:
    """InputError: the first impossible value."""
    require(1 <= video.frames <= 1024, "model.video.frames", video.frames, "frames, 1 to 1024")
    require(0 < video.fps <= 240, "model.video.fps", video.fps, "more than 0, at most 240 frames a second")
