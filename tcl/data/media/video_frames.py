"""The frames of a video that are shown at given times, and no more decoded than they take."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from av.video.frame import VideoFrame

from tcl.data.media.find_clip import NO_FRAMES
from tcl.data.media.open_media import Media
from tcl.data.media.tracks import Packets
from tcl.data.shards.bad_sample import BadSample

_EARLY = 1e-4
"""Seconds: a frame that begins so shortly after a time is shown at it; both are rounded."""


def frames_at(media: Media, packets: Packets, times: Sequence[float]) -> Iterator[tuple[list[int], VideoFrame]]:
    """(places, frame): at these of `times`, seconds in any order, the frame is shown; all places come once.

    packets: as `find_clip` gives them for the times. A frame is shown from its time on until the next one's: neither
    a frame rate nor numbers of frames are asked for. BadSample: NO_FRAMES, or too much to decode.
    """
    order = sorted(range(len(times)), key=lambda place: times[place])
    held, done = None, 0
    for frame in _decoded(media, packets, times):
        begins = (frame.pts if frame.pts is not None else frame.dts or 0) * packets.tick - _EARLY
        shown = done
        while shown < len(order) and times[order[shown]] < begins:
            shown += 1
        if held is not None and shown > done:
            yield order[done:shown], held
            done = shown
        held = frame
    if held is None:
        raise BadSample(NO_FRAMES)
    if done < len(order):
        yield order[done:], held


def _decoded(media: Media, packets: Packets, times: Sequence[float]) -> Iterator[VideoFrame]:
    """Frames in the order in which they are shown: all that are wanted, and others on which these depend."""
    context = media.video.codec_context
    wanted = _wanted(packets, times)
    for i, packet in enumerate(packets.packets[: max(wanted, default=-1) + 1]):
        media.spend(3 * context.width * context.height)
        # Frames that no other depends on cost nothing where they are not wanted.
        context.skip_frame = "DEFAULT" if i in wanted else "NONREF"
        yield from context.decode(packet)
    yield from context.decode(None)


def _wanted(packets: Packets, times: Sequence[float]) -> set[int]:
    """Which packets hold the frames that are shown at `times`."""
    shown = sorted((begins, i) for i, begins in enumerate(packets.begins) if not packets.packets[i].is_discard)
    starts = [begins - _EARLY for begins, _ in shown]
    return {shown[max(0, bisect_right(starts, time) - 1)][1] for time in times} if shown else set()
