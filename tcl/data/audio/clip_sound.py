"""The sound of a clip, from the file of the video or from one beside it; or a piece of a sound without a video."""

from tcl.data.media.clip_times import Span, sound_window
from tcl.data.media.find_clip import NO_SAMPLES, find_clip
from tcl.data.media.open_media import NO_SOUND_TRACK, Media
from tcl.data.media.sound_wave import Wave, wave_between
from tcl.data.media.tracks import all_packets, declared_span
from tcl.data.shards.bad_sample import BadSample


def sound_of_clip(media: Media, clip: Span, seconds: float, rate: int) -> Wave | None:
    """`seconds` of sound at `rate` around the centre of the seconds `clip` of a video; None: none is there.

    BadSample: it cannot be decoded, or is that of a sound file without any.
    """
    track = media.sound
    span = None if track is None else declared_span(media, track) or all_packets(media, track).span()
    if span is None and media.role == "video":
        return None
    if span is None:
        raise BadSample(NO_SOUND_TRACK if track is None else NO_SAMPLES)
    if media.role == "sound":  # a file of its own begins with the video, whatever time its first sample has
        clip = Span(clip.start + span.start, clip.end + span.start)
    return wave_between(media, sound_window(clip, seconds, span), rate)


def sound_alone(media: Media, seconds: float, rate: int, *, place: float, part: Span | None) -> tuple[Wave, Span]:
    """`seconds` of a sound that goes with no video, at `rate`, at `place` (0 to 1) of `part` of it or of all of it; and
    when that is. BadSample: unusable."""
    if media.sound is None:
        raise BadSample(NO_SOUND_TRACK)
    window, _ = find_clip(media, media.sound, seconds, place, part)
    wave = wave_between(media, Span(window.start, window.start + seconds), rate)
    if wave is None:
        raise BadSample(NO_SAMPLES)
    return wave, window
