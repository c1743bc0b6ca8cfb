"""The frames of a video that are shown at given times, and no more decoded than they take."""

from collections.abc import Iterator, Sequence

from av import Packet
from av.video.frame import VideoFrame

from tcl.data.media.find_clip import NO_FRAMES
from tcl.data.media.open_media import Media
from tcl.data.media.tracks import packet_time
from tcl.data.shards.bad_sample import BadSample

_EARLY = 1e-4
"""Seconds: a frame that begins so shortly after a time is shown at it; both are rounded."""


def frames_at(
    media: Media, packets: Sequence[Packet], times: Sequence[float]
) -> Iterator[tuple[list[int], VideoFrame]]:
    """(places, frame): at these of `times`, seconds in any order, the frame is shown; all places come once.

    packets: as `packets_between` gives them for the times. A frame is shown from its time on until the next one's:
    neither a frame rate nor numbers of frames are asked for. BadSample: NO_FRAMES, or too much to decode.
    """
    order = sorted(range(len(times)), key=lambda place: times[place])
    held = None
    for frame in _decoded(media, packets, times):
        begins = float(_ticks(frame) * media.video.time_base) - _EARLY
        shown = [place for place in order if times[place] < begins]
        if held is not None and shown:
            yield shown, held
            order = order[len(shown) :]
        held = frame
    if held is None:
        raise BadSample(NO_FRAMES)
    yield order, held


def _ticks(frame: VideoFrame) -> int:
    return frame.pts if frame.pts is not None else frame.dts or 0


def _decoded(media: Media, packets: Sequence[Packet], times: Sequence[float]) -> Iterator[VideoFrame]:
    """Frames in the order in which they are shown: all that are wanted, and others on which these depend."""
    context = media.video.codec_context
    needed, wanted = _needed(media, packets, times)
    for packet in needed:
        media.spend(3 * context.width * context.height)
        # Frames that no other depends on cost nothing where they are not wanted.
        context.skip_frame = "DEFAULT" if packet.pts is None or packet.pts in wanted else "NONREF"
        yield from context.decode(packet)
    yield from context.decode(None)


def _needed(media: Media, packets: Sequence[Packet], times: Sequence[float]) -> tuple[Sequence[Packet], set[int]]:
    """Packets up to the last one whose frame is wanted, and the time stamps of those."""
    track = media.video
    shown = sorted((packet_time(one, track), i) for i, one in enumerate(packets) if not one.is_discard)
    if not shown:
        return packets, set()
    wanted = set()
    for time in times:
        after = next((k for k, (begins, _) in enumerate(shown) if begins - _EARLY > time), len(shown))
        wanted.add(shown[max(0, after - 1)][1])
    return packets[: max(wanted) + 1], {packets[i].pts for i in wanted}
