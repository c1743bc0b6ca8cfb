"""Small videos and sounds whose frames and samples are known, for the tests of tcl.data.media."""

import io
import struct
import tempfile
import wave
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tcl.config.clips import ClipsConfig
from tcl.data.media.open_media import Media, opened

FPS, FRAMES = 8, 16
TICK = 1024
"""Of a video's time base, a second."""
SIZE = (64, 48)


def level(number: int) -> int:
    """The grey of frame `number`, 0 to 15; another one's is at least 12 away."""
    return 30 + 12 * number


def grey(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.full((size[1], size[0], 3), level(number), np.uint8)


def tone(seconds: float, rate: int, hertz: float = 440.0, amplitude: float = 0.5) -> np.ndarray:
    """[n] float32, a sine."""
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def film(
    frames: Sequence[np.ndarray] | None = None,
    *,
    times: Sequence[float] | None = None,
    sound: np.ndarray | None = None,
    rate: int = 24_000,
    sound_starts: float = 0.0,
    codec: str = "libx264",
    sound_codec: str = "aac",
    container: str = "mp4",
    options: dict[str, str] | None = None,
    gop: int = 250,
    muxer: dict[str, str] | None = None,
) -> bytes:
    """A video of `frames` [H, W, 3] (16 grey ones, FPS a second), shown from `times` on, with `sound` [n] or [2, n]."""
    frames = [grey(i) for i in range(FRAMES)] if frames is None else frames
    times = [i / FPS for i in range(len(frames))] if times is None else times
    muxer = {"fflags": "+bitexact", **(muxer or {})}  # without numbers that are drawn
    kind = {"mkv": "matroska"}.get(container, container)
    with tempfile.TemporaryDirectory() as folder:  # faststart reads again what it has written
        path = Path(folder) / "film"
        with av.open(str(path), "w", format=kind, options=muxer) as out:
            _mux(out, frames, times, codec, options or {}, gop, sound, sound_codec, rate, sound_starts)
        return path.read_bytes()


def _mux(out, frames, times, codec, options, gop, sound, sound_codec, rate, sound_starts) -> None:
    video = out.add_stream(codec, rate=FPS, options=options) if len(frames) else None
    if video is not None:
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt, video.gop_size, video.time_base = "yuv420p", gop, Fraction(1, TICK)
        video.codec_context.time_base = Fraction(1, TICK)
    audio = None
    if sound is not None:
        layout = "stereo" if sound.ndim == 2 else "mono"
        audio = out.add_stream(sound_codec, rate=rate, layout=layout)
    for pixels, time in zip(frames, times, strict=True):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = round(time * TICK), Fraction(1, TICK)
        out.mux(video.encode(frame))
    if video is not None:
        out.mux(video.encode())
    if audio is not None:
        _mux_sound(out, audio, np.atleast_2d(sound), layout, rate, sound_starts)


def _mux_sound(out, audio, sound: np.ndarray, layout: str, rate: int, starts: float) -> None:
    whole = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), format="fltp", layout=layout)
    whole.rate, whole.pts, whole.time_base = rate, round(starts * rate), Fraction(1, rate)
    resampler = av.AudioResampler(audio.codec_context.format, layout, rate, audio.codec_context.frame_size or 1024)
    for frame in [*resampler.resample(whole), *resampler.resample(None), None]:
        out.mux(audio.encode(frame))


def wav(samples: np.ndarray, rate: int = 16_000, width: int = 2) -> bytes:
    """PCM of [n] or [channels, n] floats, `width` bytes a sample (1 is unsigned)."""
    levels = np.atleast_2d(samples).T.astype(np.float64)
    if width == 1:
        data = (np.rint(levels * 127) + 128).astype(np.uint8).tobytes()
    elif width == 3:
        whole = np.rint(levels * (2**23 - 1)).astype("<i4")
        data = whole.reshape(-1, 1).view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    else:
        data = np.rint(levels * (2 ** (8 * width - 1) - 1)).astype(f"<i{width}").tobytes()
    stream = io.BytesIO()
    with wave.open(stream, "wb") as out:
        out.setnchannels(levels.shape[1])
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(data)
    return stream.getvalue()


def sound_file(samples: np.ndarray, rate: int, codec: str, container: str) -> bytes:
    """A sound in any container of FFmpeg's."""
    return film([], sound=samples, rate=rate, sound_codec=codec, container=container)


def with_field(content: bytes, box: bytes, at: int, value: int) -> bytes:
    """An MP4 with the 32 bits `at` bytes behind the name of its first `box` replaced."""
    place = content.index(box) + 4 + at
    return content[:place] + struct.pack(">I", value) + content[place + 4 :]


def quarter_turned(content: bytes, quarters: int) -> bytes:
    """A video that says that it is to be turned by `quarters` against the clock."""
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters]
    matrix = [value << 16 for value in (cos, -sin, 0, sin, cos, 0)] + [1 << 30]
    place = content.index(b"tkhd") + 4 + 4 + 20 + 16  # version; times, id, duration; place among layers, volume
    packed = struct.pack(">iiiiiiiii", *matrix[:6], 0, 0, matrix[6])
    return content[:place] + packed + content[place + 36 :]


def claiming(content: bytes, seconds: float) -> bytes:
    """A WebM that says that it is so long."""
    place = content.index(b"\x44\x89\x88") + 3
    return content[:place] + struct.pack(">d", 1000 * seconds) + content[place + 8 :]


def media(content: bytes, role: str = "video", **limits) -> "Media":
    """A context: the file, opened within these limits."""
    return opened(content, role, ClipsConfig(**limits))
