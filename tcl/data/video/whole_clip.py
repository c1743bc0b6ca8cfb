"""The clip in the middle of a file, as it is evaluated and used: whole pictures."""

from torch import Tensor

from tcl.config.clips import ClipsConfig
from tcl.config.video import VideoConfig
from tcl.data.images.decode_image import decode_image
from tcl.data.images.image_format import is_image
from tcl.data.media.clip_times import Span
from tcl.data.media.open_media import opened
from tcl.data.video.clip_frames import clip_frames, still_frames, whole_view


def whole_clip(
    content: bytes, video: VideoConfig, size: int, *, limits: ClipsConfig, max_pixels: int, part: Span | None = None
) -> Tensor:
    """Of a video, or of `part` of it, the middle; a still image stands still: [T, 3, size, size] uint8.

    limits: of a video; max_pixels: of a still. BadSample: it cannot be decoded.
    """
    if is_image(content):
        return still_frames(decode_image(content, max_pixels=max_pixels), video, whole_view(size))
    with opened(content, "video", limits) as media:
        return clip_frames(media, video, whole_view(size), place=0.5, part=part)[0]
