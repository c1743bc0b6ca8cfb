"""A part of a decoded frame as a small square of RGB: cut and scaled by FFmpeg before anything is converted."""

from fractions import Fraction

import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame

from tcl.data.images.image_operations import Box
from tcl.data.shards.bad_sample import BadSample

CHANGES = "video changes its frames' size"


def upright_size(frame: VideoFrame) -> tuple[int, int]:
    """(width, height) of a frame as it is to be seen."""
    return (frame.height, frame.width) if _quarters(frame) % 2 else (frame.width, frame.height)


def upright(frame: VideoFrame) -> np.ndarray:
    """All of a frame as it is to be seen: [H, W, 3] uint8 RGB."""
    return np.rot90(frame.to_ndarray(format="rgb24"), _quarters(frame))


class FramePicture:
    """Makes [size, size, 3] uint8 RGB of the part `box`, in the coordinates of the upright picture, of each frame of a
    video: smaller sizes are averages over areas. `frame` is any of its frames; BadSample: another one differs in kind.
    """

    def __init__(self, frame: VideoFrame, box: Box, size: int):
        self._kind = _kind(frame)
        self._quarters = _quarters(frame)
        stored = _stored(box, frame.width, frame.height, self._quarters)
        # Exact in luma: chroma planes of half the size are cut half a pixel off at odd places.
        self._graph = graph = Graph()
        graph.threads = 1
        self._source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
        )
        self._sink = graph.add("buffersink")
        graph.link_nodes(
            self._source,
            graph.add("crop", f"{stored.width}:{stored.height}:{stored.left}:{stored.top}:exact=1"),
            graph.add("scale", f"{size}:{size}:flags=bilinear"),
            graph.add("format", "rgb24"),
            self._sink,
        ).configure()

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """[size, size, 3] uint8."""
        if _kind(frame) != self._kind:
            raise BadSample(CHANGES)
        self._source.push(frame)
        return np.rot90(self._sink.pull().to_ndarray(), self._quarters)


def _kind(frame: VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def _quarters(frame: VideoFrame) -> int:
    """Quarter turns against the clock that make a frame upright, 0 to 3."""
    return round(frame.rotation / 90) % 4


def _stored(box: Box, width: int, height: int, quarters: int) -> Box:
    """`box` of the upright picture, where it lies in the frame of width x height."""
    x, y, w, h = box
    return {
        0: box,
        1: Box(width - y - h, x, h, w),
        2: Box(width - x - w, height - y - h, w, h),
        3: Box(y, height - x - w, h, w),
    }[quarters]
