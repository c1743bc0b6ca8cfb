"""Images, clips and sounds as an index of a model of them reads them: what a file is, its bytes say."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import cv2
import numpy as np

from tcl.config.audio import AudioConfig
from tcl.config.clips import ClipsConfig
from tcl.config.video import VideoConfig
from tcl.data.images.decode_image import decode_image
from tcl.data.images.image_format import is_image
from tcl.data.media.media_format import container_of, described, media_type
from tcl.data.media.open_media import opened
from tcl.data.shards.bad_sample import BadSample
from tcl.data.shards.sample_keys import media_of
from tcl.data.video.clip_frames import still_frames, whole_view
from tcl.data.video.middle_frame import middle_frame
from tcl.index.image_reader import item_of_image
from tcl.index.read_item import PICTURE_SIDE, ReadItem, Seen, small_jpeg
from tcl.inference.files import MAX_BYTES
from tcl.inference.images import MAX_PIXELS
from tcl.inference.media import LIMITS, VIDEOS, check_media, frames_of_file, sound_of_file

NO_MEDIA = "no video, image or sound"
IMAGES_OF_A_QUERY = 32
"""Of as many pixels as an image may have: what a clip that is asked with may take to decode."""


@dataclass(frozen=True)
class MediaReader:
    """As tcl.index.read_item.Reader says."""

    video: VideoConfig
    audio: AudioConfig
    size: int
    """Pixels of a frame's side."""
    unknown: Mapping[str, str]
    """By modality, why none of it can be read."""
    refused: Mapping[str, str]
    """By modality, why none of it is indexed."""
    max_bytes: int = MAX_BYTES

    def check(self, content: bytes, name: str) -> None:
        """As Reader.check."""
        check_media("media", content, name)

    def pick(self, fields: dict[str, bytes]) -> bytes:
        """As Reader.pick: the video of a sample, or else its image, or else its sound."""
        found = media_of(fields)
        if found is None:
            raise BadSample(NO_MEDIA)
        return found

    def look(self, content: bytes) -> ReadItem:
        """As Reader.look."""
        return _kind(content, self.refused).look(self, content)

    def see(self, content: bytes, max_pixels: int) -> Seen:
        """As Reader.see."""
        return _kind(content, self.unknown).see(self, content, max_pixels)

    def still(self, rgb: np.ndarray) -> Seen:
        """An image [H, W, 3] uint8, as a clip in which nothing moves."""
        return Seen("video", (still_frames(rgb, self.video, whole_view(self.size)),))

    def accepted(self, max_pixels: int) -> str:
        """As Reader.accepted."""
        return f"{VIDEOS} of at most {max_pixels:,} pixels, or a sound"


def kind_of(content: bytes) -> str:
    """What a file is: "image", "clip" or "sound". BadSample: none of them, or damaged."""
    if is_image(content):
        return "image"
    container = container_of(content)
    if container is None:
        raise BadSample(described(content, "media"))
    with opened(content, "video" if container in _OF_VIDEOS else "sound", LIMITS) as media:
        return "sound" if media.video is None else "clip"


_OF_VIDEOS = ("mov", "matroska")
"""Containers of which nobody expects a sound alone; what is in one, its tracks say."""


@dataclass(frozen=True)
class _Kind:
    modality: str
    see: Callable[[MediaReader, bytes, int], Seen]
    """The last is how many pixels an image may have, or a frame."""
    look: Callable[[MediaReader, bytes], ReadItem]


def _kind(content: bytes, refused: Mapping[str, str]) -> _Kind:
    kind = _KINDS[kind_of(content)]
    if kind.modality in refused:
        raise BadSample(refused[kind.modality])
    return kind


def _limits(max_pixels: int) -> ClipsConfig:
    """Of a clip or a sound from anybody, who may not have more decoded than the bytes of so many images."""
    frame, decoded = min(LIMITS.max_frame_pixels, max_pixels), 3 * IMAGES_OF_A_QUERY * max_pixels
    return replace(LIMITS, max_frame_pixels=frame, max_decoded_bytes=min(LIMITS.max_decoded_bytes, decoded))


def _see_image(reader: MediaReader, content: bytes, max_pixels: int) -> Seen:
    return reader.still(decode_image(content, max_pixels=max_pixels))


def _look_at_image(reader: MediaReader, content: bytes) -> ReadItem:
    rgb = decode_image(content, max_pixels=MAX_PIXELS)
    return item_of_image(content, rgb, reader.still(rgb))


def _see_clip(reader: MediaReader, content: bytes, max_pixels: int) -> Seen:
    return Seen("video", frames_of_file(content, reader.video, reader.size, _limits(max_pixels)))


def _look_at_clip(reader: MediaReader, content: bytes) -> ReadItem:
    seen = Seen("video", frames_of_file(content, reader.video, reader.size))
    with opened(content, "video", LIMITS) as media:
        rgb = middle_frame(media)
    height, width, _ = rgb.shape
    known = {"type": media_type(content, "video"), "width": width, "height": height}
    return ReadItem("", seen=seen, picture=small_jpeg(rgb), **known)


def _see_sound(reader: MediaReader, content: bytes, max_pixels: int) -> Seen:
    return Seen("audio", sound_of_file(content, reader.audio, reader.video, _limits(max_pixels)))


def _look_at_sound(reader: MediaReader, content: bytes) -> ReadItem:
    seen = Seen("audio", sound_of_file(content, reader.audio, reader.video))
    log_mel, heard = seen.inputs
    picture = small_jpeg(spectrogram_picture(log_mel[heard].numpy()))
    return ReadItem("", seen=seen, type=media_type(content, "audio"), picture=picture)


_KINDS = {
    "image": _Kind("video", _see_image, _look_at_image),
    "clip": _Kind("video", _see_clip, _look_at_clip),
    "sound": _Kind("audio", _see_sound, _look_at_sound),
}


def spectrogram_picture(log_mel: np.ndarray) -> np.ndarray:
    """What was heard of a sound, [F, mel_bins], as a picture of it: [H, W, 3] uint8 RGB, time to the right, pitch
    upwards, from the quietest thousandth of it to the loudest."""
    quiet, loud = np.quantile(log_mel, [0.001, 1.0])
    levels = np.clip((log_mel.T[::-1] - quiet) / max(loud - quiet, 1e-6), 0, 1)
    size = (PICTURE_SIDE, PICTURE_SIDE // 2)
    smooth = cv2.resize(np.rint(255 * levels).astype(np.uint8), size, interpolation=cv2.INTER_LINEAR)
    return cv2.cvtColor(cv2.applyColorMap(smooth, cv2.COLORMAP_MAGMA), cv2.COLOR_BGR2RGB)
