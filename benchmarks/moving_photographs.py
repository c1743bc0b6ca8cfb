"""Videos with sound for the benchmark of clips: those of a folder, or crops that glide over photographs, and chords."""

import io
from pathlib import Path

import av
import numpy as np
from PIL import Image

from benchmarks.photographs import photographs

RATE = 44_100


def videos(folder: Path | None, count: int, size: tuple[int, int], seconds: float, fps: int) -> list[bytes]:
    """The first `count` MP4s of `folder`, or without one `count` generated: H.264 as x264 makes it by default, with
    keyframes 250 frames apart, and AAC in stereo."""
    if folder is not None:
        return [path.read_bytes() for path in sorted(folder.glob("*.mp4"))[:count]]
    large = (size[0] * 3 // 2, size[1] * 3 // 2)
    return [_gliding(photo, size, seconds, fps) for photo in photographs(None, count, large)]


def _gliding(photo: bytes, size: tuple[int, int], seconds: float, fps: int) -> bytes:
    width, height = size
    pixels = np.asarray(Image.open(io.BytesIO(photo)).convert("RGB"))
    frames, stream = round(seconds * fps), io.BytesIO()
    with av.open(stream, "w", format="mp4") as out:
        video = out.add_stream("libx264", rate=fps)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = out.add_stream("aac", rate=RATE, layout="stereo")
        for i in range(frames):
            share = i / max(1, frames - 1)
            x, y = round(share * (pixels.shape[1] - width)), round(share**2 * (pixels.shape[0] - height))
            part = np.ascontiguousarray(pixels[y : y + height, x : x + width])
            out.mux(video.encode(av.VideoFrame.from_ndarray(part, format="rgb24")))
        out.mux(video.encode())
        t = np.arange(round(seconds * RATE)) / RATE
        chord = np.stack([0.2 * np.sin(2 * np.pi * hertz * t) for hertz in (220, 330)]).astype(np.float32)
        sound = av.AudioFrame.from_ndarray(chord, format="fltp", layout="stereo")
        sound.rate, sound.pts = RATE, 0
        cut = av.AudioResampler("fltp", "stereo", RATE, audio.codec_context.frame_size)
        for frame in [*cut.resample(sound), *cut.resample(None), None]:
            out.mux(audio.encode(frame))
    return stream.getvalue()
