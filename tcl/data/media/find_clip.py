"""Where in a track a clip is, and its packets: as the file declares or, where that is not true, by what is there."""

from tcl.data.media.clip_times import Span, clip_window
from tcl.data.media.open_media import Media
from tcl.data.media.tracks import Packets, Track, all_packets, declared_span, packets_between
from tcl.data.shards.bad_sample import BadSample

NO_FRAMES = "video without frames"
NO_SAMPLES = "sound without samples"


def find_clip(media: Media, track: Track, length: float, place: float, part: Span | None) -> tuple[Span, Packets]:
    """A window of `length` seconds, at `place` (0 to 1) of `part` of the track or of all of it; and what shows it.

    A track that is shorter is taken whole. BadSample: there is nothing in it.
    """
    span = declared_span(media, track)
    if span is not None and span.length >= length:
        window = clip_window(_limited(span, part), length, place)
        packets = packets_between(media, track, window.start, window.end)
        if not packets.end_before(window.end):
            return window, packets
    packets = all_packets(media, track)
    span = packets.span()
    if span is None:
        raise BadSample(NO_FRAMES if track is media.video else NO_SAMPLES)
    window = clip_window(_limited(span, part), length, place)
    return window, packets.between(window.start, window.end)


def _limited(span: Span, part: Span | None) -> Span:
    return span if part is None else part.within(span)
