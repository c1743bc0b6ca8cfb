"""One track of an open file, undecoded: how long it is, and its packets around a time."""

from collections.abc import Iterator
from dataclasses import dataclass

from av import Packet
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from tcl.data.media.clip_times import Span
from tcl.data.media.open_media import TOO_LONG, Media
from tcl.data.shards.bad_sample import BadSample

Track = VideoStream | AudioStream

MAX_PACKETS = 2**20
"""That are looked at in one go: ten hours of a video, a minute of 15 kHz packets; an index may list any number."""
_SLACK_SECONDS = 0.1
"""By which a track may end before it says so."""
_STEPS_BACK = (0.0, 1.0, 15.0, float("inf"))
"""Seconds before the wanted time where a keyframe is looked for: indexes hold times of decoding."""


@dataclass
class Packets:
    """Of a track, in decoding order, from a keyframe on."""

    packets: list[Packet]
    at_end: bool
    """Is the last of them the track's last?"""


def packet_time(packet: Packet, track: Track) -> float:
    """When what is in it begins to be shown, in seconds."""
    return float((packet.pts if packet.pts is not None else packet.dts or 0) * track.time_base)


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
    if span.length > media.limits.max_seconds:
        raise BadSample(f"{media.role} {TOO_LONG}")
    return span if span.length > 0 else None


def measured_span(media: Media, track: Track) -> Span | None:
    """When `track` begins and ends as its packets say; None: it has none. BadSample: TOO_LONG, hostile."""
    _seek(media, track, float("-inf"))
    first, last = float("inf"), float("-inf")
    for packet in _bounded(media, track):
        time = packet_time(packet, track)
        first, last = min(first, time), max(last, time + float((packet.duration or 0) * track.time_base))
        if last - first > media.limits.max_seconds:
            raise BadSample(f"{media.role} {TOO_LONG}")
    return Span(first, last) if first <= last else None


def packets_between(media: Media, track: Track, start: float, stop: float) -> Packets:
    """What has to be decoded to show `track` from `start` to `stop` seconds. BadSample: hostile."""
    for back in _STEPS_BACK:
        _seek(media, track, start - back)
        found = _until(media, track, stop)
        if found.packets and min(packet_time(packet, track) for packet in found.packets) <= start:
            break
    return found


def ends_before(packets: Packets, track: Track, stop: float) -> bool:
    """Did the file promise more of `track` than there is, if it promised it up to `stop` seconds?"""
    ends = (packet_time(one, track) + float((one.duration or 0) * track.time_base) for one in packets.packets)
    return packets.at_end and max(ends, default=float("-inf")) < stop - _SLACK_SECONDS


def _seek(media: Media, track: Track, time: float) -> None:
    first = track.start_time or 0
    ticks = first if time == float("-inf") else max(first, int(time / track.time_base))
    media.container.seek(ticks, stream=track)


def _until(media: Media, track: Track, stop: float) -> Packets:
    packets: list[Packet] = []
    for packet in _bounded(media, track):
        if packet.dts is not None and float(packet.dts * track.time_base) > stop:
            return Packets(packets, at_end=False)
        if packets or packet.is_keyframe:
            packets.append(packet)
    return Packets(packets, at_end=True)


def _bounded(media: Media, track: Track) -> Iterator[Packet]:
    """Those from where the file is on. BadSample: more of them, or of their bytes, than a file can honestly have."""
    room = 2 * media.container.size + 2**20
    for number, packet in enumerate(media.container.demux(track)):
        if packet.size == 0:  # the one that ends a track
            continue
        room -= packet.size
        if room < 0 or number >= MAX_PACKETS:
            raise BadSample(f"corrupt {media.role}")
        yield packet
