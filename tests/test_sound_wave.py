"""Sound of a time: whatever the file's rate, channels, kind of numbers and codec, it is the tone that was put in."""

import numpy as np
import pytest
from media_files import film, media, sound_file, tone, wav

from tcl.data.audio.clip_sound import sound_alone, sound_of_clip
from tcl.data.media.clip_times import Span
from tcl.data.media.sound_wave import LOUDEST, Wave, wave_between
from tcl.data.media.tracks import declared_span
from tcl.data.shards.bad_sample import BadSample

RATE = 48_000


def heard(content: bytes, start: float, stop: float, role: str = "sound", rate: int = RATE) -> Wave | None:
    """From the first sample of a sound on, whose time in MP3 is the coder's delay."""
    with media(content, role) as opened:
        first = declared_span(opened, opened.sound).start if role == "sound" else 0.0
        return wave_between(opened, Span(first + start, first + stop), rate)


def difference(samples: np.ndarray, other: np.ndarray, lag: int) -> float:
    """The largest one, at the best of up to `lag` samples of delay: some containers round times to milliseconds."""
    inner = samples[lag : len(samples) - lag]
    return min(np.abs(inner - other[at : at + len(inner)]).max() for at in range(2 * lag + 1))


def expected(start: float, stop: float, rate: int = RATE) -> np.ndarray:
    return tone(stop, rate)[round(start * rate) :]


@pytest.mark.parametrize("start", [0.0, 0.38, 1.2])
@pytest.mark.parametrize(
    ("content", "tolerance", "lag"),
    [
        (wav(tone(2, 16_000), 16_000), 1e-3, 0),
        (wav(tone(2, 48_000), 48_000), 1e-4, 0),
        (wav(tone(2, 22_050), 22_050, width=4), 1e-3, 0),
        (wav(tone(2, 48_000), 48_000, width=3), 1e-6, 0),
        (wav(tone(2, 8_000), 8_000, width=1), 0.01, 0),
        (wav(np.stack([1.5 * tone(2, 44_100), 0.5 * tone(2, 44_100)]), 44_100), 1e-3, 0),
        (sound_file(tone(2, 22_050), 22_050, "pcm_f32le", "wav"), 1e-3, 0),
        (sound_file(tone(2, 8_000), 8_000, "pcm_mulaw", "wav"), 0.03, 0),
        (sound_file(tone(2, 16_000), 16_000, "flac", "flac"), 1e-3, 0),
        (sound_file(tone(2, 48_000), 48_000, "libopus", "ogg"), 0.05, 0),
        (sound_file(tone(2, 44_100), 44_100, "libmp3lame", "mp3"), 0.05, 1),
        (sound_file(tone(2, 24_000), 24_000, "aac", "mp4"), 0.05, 0),
        (sound_file(np.stack([tone(2, 48_000)] * 2), 48_000, "libopus", "webm"), 0.05, 48),
    ],
)
def test_a_tone_is_the_tone(content, tolerance, lag, start):
    """The filters of a resampler ring at the ends of the file."""
    wave = heard(content, start, start + 0.5)
    assert wave.samples.dtype == np.float32 and wave.samples.shape == (RATE // 2,)
    assert (wave.first, wave.last) == (0, RATE // 2) and not wave.silent
    skipped = 2_000 if start == 0 else 0
    assert difference(wave.samples[skipped:], expected(start, start + 0.5)[skipped:], lag) < tolerance


def test_a_window_is_the_slice_of_the_whole():
    """Also of codecs whose packets overlap, from the middle of the file on."""
    t = np.arange(3 * RATE) / RATE
    chirp = (0.4 * np.sin(2 * np.pi * (200 + 300 * t) * t)).astype(np.float32)
    for codec, container in (("aac", "mp4"), ("libopus", "ogg"), ("libmp3lame", "mp3"), ("flac", "flac")):
        content = sound_file(chirp, RATE, codec, container)
        whole, part = heard(content, 0.0, 3.0).samples, heard(content, 1.5, 2.0).samples
        assert np.abs(part - whole[RATE * 3 // 2 : RATE * 2]).max() < 2e-3, codec


def test_sound_that_starts_late_has_its_place():
    content = film(sound=tone(1.5, 24_000), sound_starts=0.5)
    wave = heard(content, 0.0, 2.0, role="video")
    assert wave.first == pytest.approx(RATE / 2, abs=0.05 * RATE) and wave.last == 2 * RATE
    assert not wave.samples[: wave.first].any()
    late = wave.samples[round(0.6 * RATE) : round(1.9 * RATE)]
    assert difference(late, expected(0.1, 1.4), 48) < 0.06


def test_what_is_missing_at_the_end_is_silence_and_not_heard():
    wave = heard(wav(tone(1, 16_000)), 0.5, 2.0)
    assert (wave.first, wave.last) == (0, RATE // 2)
    assert not wave.samples[RATE // 2 :].any() and wave.samples[: RATE // 2].any()
    assert heard(wav(tone(1, 16_000)), 5.0, 6.0) is None


@pytest.mark.parametrize("content", [wav(np.zeros(16_000)), film(sound=np.zeros(48_000, np.float32))])
def test_silence_is_silent(content):
    role = "sound" if content.startswith(b"RIFF") else "video"
    assert heard(content, 0.0, 1.0, role).silent
    assert not heard(wav(tone(1, 16_000, amplitude=1e-3)), 0.0, 1.0).silent


def test_floats_may_be_anything():
    odd = tone(1, 16_000).copy()
    odd[100:104] = [np.nan, np.inf, -np.inf, 1e38]
    wave = heard(sound_file(odd, 16_000, "pcm_f32le", "wav"), 0.0, 1.0, rate=16_000)
    assert np.isfinite(wave.samples).all()
    assert wave.samples[100:104].tolist() == [0, LOUDEST, -LOUDEST, LOUDEST]
    assert np.array_equal(np.delete(wave.samples, range(100, 104)), np.delete(odd, range(100, 104)))


def test_the_sound_of_a_clip_is_around_its_centre():
    content = film(sound=tone(2, 24_000))
    with media(content) as opened:
        for clip, seconds, start in ((Span(0.5, 1.5), 1.0, 0.5), (Span(0.5, 1.5), 0.4, 0.8), (Span(1.5, 2), 1.0, 1.0)):
            wave = sound_of_clip(opened, clip, seconds, RATE)
            inner = slice(None, -3_000)
            assert len(wave.samples) == seconds * RATE
            assert np.abs(wave.samples - expected(start, start + seconds))[inner].max() < 0.05


def test_a_sound_alone_is_taken_where_it_is_asked_for():
    with media(wav(tone(2, 16_000)), "sound") as opened:
        wave, window = sound_alone(opened, 0.5, RATE, place=0.5, part=None)
        assert window == Span(0.75, 1.25) and np.abs(wave.samples - expected(0.75, 1.25)).max() < 1e-3
        wave, window = sound_alone(opened, 0.5, RATE, place=1.0, part=Span(0.0, 1.0))
        assert window == Span(0.5, 1.0)
        wave, window = sound_alone(opened, 3.0, RATE, place=0.5, part=None)
        assert window == Span(0.0, 2.0) and (len(wave.samples), wave.last) == (3 * RATE, 2 * RATE)


def test_a_video_without_sound_has_none():
    with media(film()) as opened:
        assert sound_of_clip(opened, Span(0.0, 1.0), 1.0, RATE) is None


def test_a_sound_file_without_sound_is_unusable():
    with (
        media(film(container="mp4"), "sound") as opened,
        pytest.raises(BadSample, match=r"^no sound track$"),
    ):
        sound_alone(opened, 1.0, RATE, place=0.5, part=None)
