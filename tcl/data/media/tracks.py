"""One track of an open file, undecoded: how long it is, and its packets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from av import Packet
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from tcl.data.media.clip_times import Span
from tcl.data.media.open_media import TOO_LONG, Media
from tcl.data.shards.bad_sample import BadSample

Track = VideoStream | AudioStream

MAX_PACKETS = 2**20
"""That are looked at in one go: ten hours of a video; an index may list any number."""
_SLACK_SECONDS = 0.1
"""By which a track may end before it says so."""
_STEPS_BACK = (0.0, 1.0, 15.0, float("inf"))
"""Seconds before the wanted time where a keyframe is looked for: indexes hold times of decoding, and what is shown
before a keyframe but decoded after it may need the one before."""


@dataclass
class Packets:
    """Of a track, in decoding order, from a keyframe on."""

    packets: Sequence[Packet]
    begins: list[float]
    """When what is in each begins to be shown, in seconds."""
    at_end: bool
    """Is the last of them the track's last?"""
    tick: float
    """Seconds of a unit of the packets' time stamps."""

    def span(self) -> Span | None:
        """From when to when they are shown; None: there are none."""
        if not self.packets:
            return None
        ends = (begin + (one.duration or 0) * self.tick for begin, one in zip(self.begins, self.packets, strict=True))
        return Span(min(self.begins), max(ends))

    def end_before(self, time: float) -> bool:
        """Is there less of the track than up to `time`, seconds?"""
        span = self.span()
        return self.at_end and (span is None or span.end < time - _SLACK_SECONDS)

    def between(self, start: float, stop: float) -> "Packets":
        """Those of them that have to be decoded to show `start` to `stop` seconds."""
        places = range(len(self.packets))
        keys = [i for i in places if self.packets[i].is_keyframe and self.begins[i] <= start]
        first = keys[-1] if keys else 0
        last = next((i for i in places if (self.packets[i].dts or 0) * self.tick > stop), len(self.packets))
        return replace(self, packets=self.packets[first:last], begins=self.begins[first:last])


def declared_span(media: Media, track: Track) -> Span | None:
    """When `track` begins and ends as the file says; None: it does not. BadSample: TOO_LONG."""
    start = float((track.start_time or 0) * track.time_base)
    if track.duration is not None:
        span = Span(start, start + float(track.duration * track.time_base))
    elif media.container.duration is not None:
        first = (media.container.start_time or 0) / 1e6
        span = Span(start, first + media.container.duration / 1e6)
    else:
        return None
    _check_length(media, span)
    return span if span.length > 0 else None


def packets_between(media: Media, track: Track, start: float, stop: float) -> Packets:
    """What has to be decoded to show `track` from `start` to `stop` seconds. BadSample: hostile."""
    first = track.start_time or 0
    for back in _STEPS_BACK:
        ticks = first if back == float("inf") else max(first, int((start - back) / track.time_base))
        media.container.seek(ticks, stream=track)
        found = _until(media, track, stop)
        if ticks == first or (found.packets and found.begins[0] <= start):
            break
    return found


def all_packets(media: Media, track: Track) -> Packets:
    """BadSample: TOO_LONG, hostile."""
    media.container.seek(track.start_time or 0, stream=track)
    found = _until(media, track, float("inf"))
    _check_length(media, found.span())
    return found


def _check_length(media: Media, span: Span | None) -> None:
    if span is not None and span.length > media.limits.max_seconds:
        raise BadSample(f"{media.role} {TOO_LONG}")


def _until(media: Media, track: Track, stop: float) -> Packets:
    tick = float(track.time_base)
    packets: list[Packet] = []
    begins: list[float] = []
    for packet in _bounded(media, track):
        pts, dts = packet.pts, packet.dts
        if dts is not None and dts * tick > stop:
            return Packets(packets, begins, at_end=False, tick=tick)
        if packets or packet.is_keyframe:
            packets.append(packet)
            begins.append((pts if pts is not None else dts or 0) * tick)
    return Packets(packets, begins, at_end=True, tick=tick)


def _bounded(media: Media, track: Track) -> Iterator[Packet]:
    """Those from where the file is on. BadSample: more of them, or of their bytes, than a file can honestly have."""
    room = _bytes_of(media)
    for number, packet in enumerate(media.container.demux(track)):
        if packet.size == 0:  # the one that ends a track
            continue
        room -= packet.size
        if room < 0 or number >= MAX_PACKETS:
            raise BadSample(f"corrupt {media.role}")
        yield packet


def _bytes_of(media: Media) -> int:
    """That the packets of one track may have together: some containers compress them."""
    return 2 * media.container.size + 2**20
