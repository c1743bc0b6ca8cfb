"""Where in a track a clip is, and its packets: as the file declares or, where that is not true, by what is there."""

from tcl.data.media.clip_times import Span, clip_window
from tcl.data.media.open_media import Media
from tcl.data.media.tracks import Packets, Track, declared_span, ends_before, measured_span, packets_between
from tcl.data.shards.bad_sample import BadSample

NO_FRAMES = "video without frames"
NO_SAMPLES = "sound without samples"


def find_clip(media: Media, track: Track, length: float, place: float, part: Span | None) -> tuple[Span, Packets]:
    """A window of `length` seconds, at `place` (0 to 1) of `part` of the track or of all of it; and what shows it.

    A track that is shorter is taken whole. BadSample: there is nothing in it.
    """
    span = declared_span(media, track)
    declared = span is not None and span.length >= length
    if not declared:
        span = _measured(media, track)
    window, packets = _window(media, track, span, length, place, part)
    if declared and ends_before(packets, track, window.end):
        window, packets = _window(media, track, _measured(media, track), length, place, part)
    return window, packets


def _measured(media: Media, track: Track) -> Span:
    span = measured_span(media, track)
    if span is None:
        raise BadSample(NO_FRAMES if track is media.video else NO_SAMPLES)
    return span


def _window(
    media: Media, track: Track, span: Span, length: float, place: float, part: Span | None
) -> tuple[Span, Packets]:
    window = clip_window(span if part is None else part.within(span), length, place)
    return window, packets_between(media, track, window.start, window.end)
