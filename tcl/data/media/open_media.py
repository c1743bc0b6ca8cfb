"""The bytes of a file of video or sound -> an open container; whatever is wrong with them becomes a BadSample."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NoReturn

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from tcl.config.clips import ClipsConfig
from tcl.data.images.decode_image import TOO_LARGE
from tcl.data.media.media_format import DECODERS, PCM, SOUND_CODECS, VIDEO_CODECS, container_of, described
from tcl.data.media.whole_media import check_whole
from tcl.data.shards.bad_sample import BadSample

Role = Literal["video", "sound"]

TOO_LONG = "longer than data.clips.max_seconds"
TOO_MANY_BYTES = "decodes to more than data.clips.max_decoded_bytes"
NO_VIDEO_TRACK = "no video track"
NO_SOUND_TRACK = "no sound track"

SAMPLE_RATES = (4_000, 384_000)
"""From what lies beyond, a resampler would make filters of gigabytes."""
_BUFFER_BYTES = 2**17


@dataclass
class Media:
    """An open file with the tracks that are read of it, and what may be decoded of it."""

    role: Role
    """What the file is of, for causes."""
    container: InputContainer
    video: VideoStream | None
    sound: AudioStream | None
    limits: ClipsConfig
    bytes_left: int

    def spend(self, size: int) -> None:
        """Count `size` decoded bytes. BadSample: TOO_MANY_BYTES."""
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise BadSample(f"{self.role} {TOO_MANY_BYTES}")


@contextlib.contextmanager
def opened(content: bytes, role: Role, limits: ClipsConfig) -> Iterator[Media]:
    """The container in `content`, which decodes in the thread that asks. BadSample, here or while it is read: no
    container, not all of it is there, damaged, a codec that is not read, beyond `limits`.

    The bytes say what it is, whatever it was called. It opens no other file, whatever it says of others.
    """
    kind = container_of(content)
    if kind is None:
        raise BadSample(described(content, role))
    check_whole(content, kind, role)
    options = {
        "threads": "1",
        "codec_whitelist": ",".join(DECODERS + PCM),
        "max_pixels": str(limits.max_frame_pixels),
    }
    try:
        with av.open(
            io.BytesIO(content),
            format=kind,
            options=options,
            metadata_errors="ignore",
            buffer_size=_BUFFER_BYTES,
            io_open=_refuse,
        ) as container:
            video, sound = _video_of(container), next(iter(container.streams.audio), None)
            media = Media(role, container, video, sound, limits, limits.max_decoded_bytes)
            _check_tracks(media)
            yield media
    except av.FFmpegError as error:
        raise BadSample(f"corrupt {role}") from error


def _refuse(*_: object) -> NoReturn:
    raise PermissionError("media name no other files")


def _video_of(container: InputContainer) -> VideoStream | None:
    """The first that is no picture of a cover."""
    covers = Disposition.attached_pic | Disposition.timed_thumbnails
    return next((stream for stream in container.streams.video if not stream.disposition & covers), None)


def _check_tracks(media: Media) -> None:
    video, sound = media.video, media.sound
    if video is not None:
        _check_codec("video", video, VIDEO_CODECS)
        if video.width * video.height > media.limits.max_frame_pixels:
            raise BadSample(f"video: {TOO_LARGE}")
        video.codec_context.thread_count = 1
        video.codec_context.options = {"max_pixels": str(media.limits.max_frame_pixels)}
    if sound is not None:
        _check_codec("sound", sound, SOUND_CODECS + PCM)
        if sound.rate and not SAMPLE_RATES[0] <= sound.rate <= SAMPLE_RATES[1]:
            raise BadSample("sample rate of the sound is not 4 to 384 kHz")
        sound.codec_context.thread_count = 1


def _check_codec(role: Role, stream: VideoStream | AudioStream, read: tuple[str, ...]) -> None:
    context = stream.codec_context
    if context is None or context.codec.canonical_name not in read:
        raise BadSample(f"codec of the {role} is not read")
