"""Videos and sounds as people have them to frames and waves for their encoders.

A path, the bytes of a file, or such a file opened for reading, whatever it is called; or numbers: frames as
tcl.inference.arrays has images, [T, H, W, 3] or, of torch, [T, 3, H, W], a wave as [S] floats, mono, 1 full scale.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tcl.config.audio import AudioConfig, seconds_of_sound
from tcl.config.checks import require
from tcl.config.clips import ClipsConfig
from tcl.config.video import VideoConfig
from tcl.data.audio.clip_sound import sound_alone, sound_of_clip
from tcl.data.audio.sounds_of_waves import sounds_of
from tcl.data.feed.clip_reader import LACKS, SILENT
from tcl.data.feed.file_stream import Files, files_of_folder
from tcl.data.images.image_format import is_image
from tcl.data.media.find_clip import NO_SAMPLES, find_clip
from tcl.data.media.media_format import container_of, described
from tcl.data.media.open_media import SAMPLE_RATES, Role, opened
from tcl.data.media.sound_wave import LOUDEST, Wave, wave_of_samples
from tcl.data.shards.bad_sample import BadSample
from tcl.data.video.clip_frames import still_frames, whole_view
from tcl.data.video.whole_clip import whole_clip
from tcl.errors import InputError
from tcl.inference.arrays import ArrayLike, rgb_of
from tcl.inference.files import MAX_BYTES, FileLike, decoded, is_file_like, listed
from tcl.inference.images import MAX_PIXELS

MediaLike = FileLike | ArrayLike
LIMITS = ClipsConfig()
"""Files that cost more than runs allow by default are refused."""
VIDEOS = "give an MP4, WebM or Matroska file, or an image"
SOUNDS = "give a WAV, FLAC, Ogg, Opus or MP3 file, or a video with sound"
_OPTIONS: dict[str, tuple[Role, str]] = {
    "clips": ("video", "MP4, WebM, Matroska, and images"),
    "sounds": ("sound", "WAV, FLAC, Ogg, Opus, MP3, and videos with sound"),
}


def list_media(media: MediaLike | Iterable[MediaLike], name: str) -> list[MediaLike]:
    """One video or sound, or several, as a list, in which opened files have become their bytes. An array is one.

    InputError, naming `name`: none at all, something that is no MediaLike, an opened file that cannot be read.
    """
    return listed(
        media,
        name,
        _is_one,
        "cannot be one; give a path, bytes, a file opened with 'rb', a numpy array or a tensor",
    )


def _is_one(media: object) -> bool:
    return isinstance(media, np.ndarray | Tensor) or is_file_like(media)


def read_clip(clip: MediaLike, name: str, video: VideoConfig, size: int) -> Tensor:
    """The clip in the middle of a video, or a still image as one, whole pictures: [T, 3, size, size] uint8.

    Frames that are given as numbers are `video.fps` a second; where they are too few, they start over. InputError,
    naming `name`: it cannot be used.
    """
    if isinstance(clip, np.ndarray | Tensor):
        return _of_frames(clip, name, video, size)
    read = partial(whole_clip, video=video, size=size, limits=LIMITS, max_pixels=MAX_PIXELS)
    return decoded(clip, name, VIDEOS, read)


def _of_frames(frames: ArrayLike, name: str, video: VideoConfig, size: int) -> Tensor:
    if frames.ndim != 4 or not len(frames):
        shapes = "[T, 3, H, W]" if isinstance(frames, Tensor) else "[T, H, W, 3]"
        raise InputError(f"{name}: frames of shape {list(frames.shape)}; accepted: {shapes}, T at least 1")
    first = max(0, len(frames) - video.frames) // 2
    places = [first + i % len(frames) for i in range(video.frames)]
    single, view = replace(video, frames=1), whole_view(size)
    pictures = {i: rgb_of(frames[i], f"{name}[{i}]", MAX_PIXELS) for i in sorted(set(places))}
    shown = {i: still_frames(picture, single, view) for i, picture in pictures.items()}
    return torch.cat([shown[i] for i in places])


def check_rate(rate: int | None) -> None:
    """InputError: no number of samples a second."""
    least, most = SAMPLE_RATES
    good = rate is None or (isinstance(rate, int) and least <= rate <= most)
    require(good, "rate", rate, f"samples a second of the arrays, an integer from {least:,} to {most:,}")


def read_wave(sound: MediaLike, name: str, rate: int | None, audio: AudioConfig, video: VideoConfig) -> Wave:
    """What an encoder of `audio` hears of a sound: its middle; of a video, what goes with the clip in its middle.

    rate: samples a second of one that is given as numbers. InputError, naming `name`: it cannot be used, has no sound,
    or a silent one.
    """
    seconds, own_rate = seconds_of_sound(audio, video), audio.spectrogram.sample_rate
    if isinstance(sound, np.ndarray | Tensor):
        wave = wave_of_samples(_samples_of(sound, name, rate), rate, seconds, own_rate)
        problem = NO_SAMPLES if wave is None else SILENT if wave.silent else None
        if problem is not None:
            raise InputError(f"{name}: {problem}; give one that can be heard")
        return wave
    return decoded(sound, name, SOUNDS, partial(wave_of_file, audio=audio, video=video))


def wave_of_file(content: bytes, audio: AudioConfig, video: VideoConfig, limits: ClipsConfig = LIMITS) -> Wave:
    """As `read_wave`, of the bytes of a file. BadSample: unusable, or beyond `limits`."""
    seconds, rate = seconds_of_sound(audio, video), audio.spectrogram.sample_rate
    with opened(content, "sound", limits) as media:
        if media.video is None:
            wave, _ = sound_alone(media, seconds, rate, place=0.5, part=None)
        else:  # it goes by the times of the video
            window, _ = find_clip(media, media.video, video.frames / video.fps, 0.5, None)
            wave = sound_of_clip(replace(media, role="video"), window, seconds, rate)
    if wave is None:
        raise BadSample(LACKS["audio"])
    if wave.silent:
        raise BadSample(SILENT)
    return wave


def frames_of_file(content: bytes, video: VideoConfig, size: int, limits: ClipsConfig = LIMITS) -> tuple[Tensor]:
    """As `whole_clip`, of one."""
    return (whole_clip(content, video, size, limits=limits, max_pixels=MAX_PIXELS),)


def sound_of_file(
    content: bytes, audio: AudioConfig, video: VideoConfig, limits: ClipsConfig = LIMITS
) -> tuple[Tensor, Tensor]:
    """As `wave_of_file`, as its encoder takes it: log-mel [F, mel_bins], and bool [F] where it was heard."""
    sounds = sounds_of([wave_of_file(content, audio, video, limits)], seconds_of_sound(audio, video), audio.spectrogram)
    return sounds.log_mel[0], sounds.heard[0]


def media_of_folder(folder: Path, option: Literal["clips", "sounds"]) -> Files:
    """As `files_of_folder`, whatever the files are called."""
    role, accepted = _OPTIONS[option]
    return files_of_folder(folder, option, accepted, partial(check_media, role), MAX_BYTES)


def check_media(role: str, start: bytes, path: str) -> None:
    """BadSample: a file is no video, image or sound by its first bytes; role: what it was to be."""
    if container_of(start) is None and not is_image(start):
        raise BadSample(described(start, role))


def _samples_of(sound: ArrayLike, name: str, rate: int | None) -> np.ndarray:
    """[S] float32."""
    kind = str(sound.dtype).removeprefix("torch.")
    if sound.ndim != 1 or not len(sound) or "float" not in kind:
        raise InputError(
            f"{name}: an array of shape {list(sound.shape)} and type {kind}; accepted: floats [S], S at least 1, the "
            f"mean of the channels, 1 full scale"
        )
    if rate is None:
        raise InputError(f"rate: None, and {name} is an array; give its samples a second")
    samples = sound.detach().float().cpu().numpy() if isinstance(sound, Tensor) else sound.astype(np.float32)
    loudest = float(np.abs(samples).max())
    if not loudest <= LOUDEST:  # NaN too
        raise InputError(f"{name}: samples of up to {loudest:.4g}; accepted: 1 is full scale, {LOUDEST:g} the most")
    return samples
