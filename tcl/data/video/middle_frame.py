"""One whole picture of a video, to show which it is."""

import numpy as np

from tcl.data.media.find_clip import NO_FRAMES, find_clip
from tcl.data.media.frame_picture import upright
from tcl.data.media.open_media import NO_VIDEO_TRACK, Media
from tcl.data.media.video_frames import frames_at
from tcl.data.shards.bad_sample import BadSample


def middle_frame(media: Media) -> np.ndarray:
    """The frame in the middle of a video, upright: [H, W, 3] uint8 RGB. BadSample: none, or it is damaged."""
    if media.video is None:
        raise BadSample(NO_VIDEO_TRACK)
    moment, packets = find_clip(media, media.video, 0.0, 0.5, None)
    for _, frame in frames_at(media, packets, [moment.start]):
        return upright(frame)
    raise BadSample(NO_FRAMES)
