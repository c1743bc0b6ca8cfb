"""The sound of a time, mono at one rate, whatever the file's."""

from dataclasses import dataclass
from math import ceil, gcd

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from tcl.data.media.clip_times import Span, clip_window
from tcl.data.media.open_media import Media
from tcl.data.media.tracks import Packets, packets_between
from tcl.data.shards.bad_sample import BadSample

BEFORE = 0.5
"""Seconds that are decoded before those that are wanted: packets overlap, and the first after a seek is not whole."""
RATE_CHANGES = "sound changes its sample rate"
LOUDEST = 8.0
"""Where samples of floats are cut; 1 is full scale."""
SILENT = 2**-15
"""Sound that never exceeds the smallest step of 16 bits is silence."""

_EDGE = 0.05
"""Seconds around the wanted ones that the resampler's filters see."""
_GAP = 0.05
"""Seconds between packets that are a gap; less is how times are rounded."""


@dataclass
class Wave:
    """Mono sound of a window of time."""

    samples: np.ndarray
    """[S] float32, zeros where there is no sound."""
    first: int
    last: int
    """Samples first .. last - 1 are sound, first < last; what is outside is filled."""

    @property
    def silent(self) -> bool:
        return not np.abs(self.samples).max(initial=0) > SILENT


def wave_between(media: Media, window: Span, rate: int) -> Wave | None:
    """The sound of `window` at `rate` samples a second, the mean of its channels; None: there is none in that time.

    BadSample: it cannot be decoded, or there is too much.
    """
    packets = packets_between(media, media.sound, window.start - BEFORE, window.end + _EDGE)
    pieces, own_rate = _decoded(media, packets)
    if not pieces:
        return None
    return _in_window(pieces, own_rate, window, rate)


def wave_of_samples(samples: np.ndarray, own_rate: int, seconds: float, rate: int) -> Wave | None:
    """The `seconds` in the middle of mono samples [n] float32, n >= 1, as of a file with these samples; None: they do
    not make one at `rate`."""
    window = clip_window(Span(0.0, len(samples) / own_rate), seconds, 0.5)
    samples = np.clip(samples, -LOUDEST, LOUDEST)
    return _in_window([(0.0, samples)], own_rate, Span(window.start, window.start + seconds), rate)


def _in_window(pieces: list[tuple[float, np.ndarray]], own_rate: int, window: Span, rate: int) -> Wave | None:
    """Pieces (start in seconds, mono samples), one at least, as the sound of `window`; None: none of it is there."""
    count = round(window.length * rate)
    starts, ends = pieces[0][0], max(start + len(piece) / own_rate for start, piece in pieces)
    first, last = (min(max(round((time - window.start) * rate), 0), count) for time in (starts, ends))
    if first >= last:
        return None
    unit = own_rate // gcd(own_rate, rate)  # as many samples are a whole number of them at the other rate
    edge = ceil(_EDGE * own_rate / unit) * unit
    whole = np.zeros(round(window.length * own_rate) + 2 * edge, np.float32)
    for start, piece in pieces:
        _put(whole, piece, round((start - window.start) * own_rate) + edge)
    samples = _resampled(whole, own_rate, rate)[edge * rate // own_rate :][:count]
    cut = np.zeros(count, np.float32)
    cut[: len(samples)] = samples
    cut[:first] = cut[last:] = 0
    return Wave(cut, first, last)


def _decoded(media: Media, packets: Packets) -> tuple[list[tuple[float, np.ndarray]], int]:
    """(start in seconds, mono samples) of each piece without a gap, and their rate."""
    rate, follows = 0, None
    runs: list[tuple[float, list[AudioFrame]]] = []
    for packet in [*packets.packets, None]:
        for frame in media.sound.codec_context.decode(packet):
            if rate and frame.sample_rate != rate:
                raise BadSample(RATE_CHANGES)
            rate = frame.sample_rate
            media.spend(4 * frame.samples * frame.layout.nb_channels)
            start = frame.pts * packets.tick if frame.pts is not None else follows or packets.begins[0]
            if follows is None or abs(start - follows) >= _GAP:
                runs.append((start, []))
                follows = start
            runs[-1][1].append(frame)
            follows += frame.samples / rate
    return [(start, _mono(frames)) for start, frames in runs], rate


def _mono(frames: list[AudioFrame]) -> np.ndarray:
    """[n] float32, the mean of the channels."""
    samples = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
    if not frames[0].format.is_planar:
        samples = samples.reshape(-1, frames[0].layout.nb_channels).T
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif np.issubdtype(samples.dtype, np.integer):
        samples = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    mono = samples[0].astype(np.float32) if len(samples) == 1 else samples.mean(axis=0, dtype=np.float32)
    return np.nan_to_num(mono, posinf=LOUDEST, neginf=-LOUDEST).clip(-LOUDEST, LOUDEST)


def _put(whole: np.ndarray, piece: np.ndarray, at: int) -> None:
    """`piece` into its place, as much of it as lies in `whole`."""
    start, stop = max(at, 0), min(at + len(piece), len(whole))
    if start < stop:
        whole[start:stop] = piece[start - at : stop - at]


def _resampled(samples: np.ndarray, own_rate: int, rate: int) -> np.ndarray:
    if own_rate == rate:
        return samples
    frame = AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.rate = own_rate
    resampler = AudioResampler(format="flt", layout="mono", rate=rate)
    pieces = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([piece.to_ndarray()[0] for piece in pieces])
