"""Which seconds of a video and of its sound make a clip."""

from typing import NamedTuple


class Span(NamedTuple):
    """From when to when, in seconds of the file."""

    start: float
    end: float

    @property
    def length(self) -> float:
        return self.end - self.start

    @property
    def centre(self) -> float:
        return (self.start + self.end) / 2

    def within(self, other: "Span") -> "Span":
        """Its part in `other`; all of `other` where they do not meet."""
        part = Span(max(self.start, other.start), min(self.end, other.end))
        return part if part.length > 0 else other


def clip_window(span: Span, length: float, place: float) -> Span:
    """A clip of `length` seconds in `span`, from its beginning (place 0) to its end (1); all of a shorter span."""
    start = span.start + place * max(0.0, span.length - length)
    return Span(start, min(span.end, start + length))


def frame_times(window: Span, frames: int, fps: float) -> list[float]:
    """When the frames of a clip are seen, [frames] seconds: every 1 / fps from the start of the window on; what is
    shorter starts over (as DMVR loops it)."""
    length = window.length
    return [window.start + (i / fps % length if length > 0 else 0) for i in range(frames)]


def sound_window(clip: Span, seconds: float, sound: Span) -> Span:
    """`seconds` of sound around the centre of the clip that it goes with: shifted, where the clip is nearer to an end
    of what there is of both than that; silence is left at the end alone."""
    first, last = min(clip.start, sound.start), max(clip.end, sound.end)
    start = max(first, min(clip.centre - seconds / 2, last - seconds))
    return Span(start, start + seconds)
