"""Video and sound from anywhere: each thing that is wrong has a cause of its own, and costs no more than it may."""

import os
import struct
from pathlib import Path
from random import Random

import numpy as np
import pytest
from data_files import TOKENIZER, config, encode, noise
from media_files import claiming, film, grey, media, sound_file, tone, wav, with_field

from tcl.config.audio import AudioConfig, SpectrogramConfig
from tcl.config.clips import ClipsConfig, check_clips
from tcl.config.video import VideoConfig
from tcl.data.feed.clip_reader import SILENT, Clip, ClipReader
from tcl.data.media import index_work, tracks
from tcl.data.media.media_format import container_of
from tcl.data.shards.bad_sample import BadSample, reading
from tcl.errors import InputError

SPECTROGRAM = SpectrogramConfig(sample_rate=16_000, window=512, hop=256)
FILM = film(sound=tone(2, 24_000))
TONE = wav(tone(1, 16_000))


def read(fields: dict[str, bytes], required: tuple[str, ...] = (), **limits) -> Clip:
    data = config("none.tar", clips=ClipsConfig(**limits))
    audio = AudioConfig(spectrogram=SPECTROGRAM)
    video = VideoConfig(frames=4, fps=8)
    reader = ClipReader(data, video, audio, TOKENIZER, image_size=16, required=required)
    with reading():
        return reader.read(fields, "0.tar/x", Random(0))


def cause(fields: dict[str, bytes], **limits) -> str:
    with pytest.raises(BadSample) as raised:
        read(fields, **limits)
    return str(raised.value)


def without_box(content: bytes, name: bytes) -> bytes:
    at = content.index(name) - 4
    return content[:at] + content[at + int.from_bytes(content[at : at + 4], "big") :]


def without_clusters(content: bytes) -> bytes:
    """A WebM of which the headers alone are there, and no size to tell."""
    segment, cluster = content.index(b"\x18\x53\x80\x67"), content.index(b"\x1f\x43\xb6\x75")
    return content[: segment + 4] + b"\x01" + b"\xff" * 7 + content[segment + 12 : cluster]


FASTSTART = film(sound=tone(2, 24_000), muxer={"movflags": "faststart"})
WEBM = film(container="webm", codec="libvpx-vp9", options={"deadline": "realtime"})
OGG = sound_file(tone(1, 48_000), 48_000, "libopus", "ogg")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("mp4", b"", "empty video file"),
        ("wav", b"", "empty sound file"),
        ("mp4", b"not a video\n", "text in place of video"),
        ("mp3", b"<html>404</html>", "text in place of sound"),
        ("webm", bytes(range(256)), "unknown format of video"),
        ("wav", b"RIFF\0\0\0\0AVI LIST", "unknown format of sound"),
        ("mp4", encode(noise()), "unknown format of video"),
        ("mp4", FILM[: len(FILM) // 2], "truncated video, its index (moov) is missing"),
        ("mp4", without_box(FILM, b"moov"), "truncated video, its index (moov) is missing"),
        ("mp4", FASTSTART[: len(FASTSTART) // 2], "truncated video"),
        ("webm", WEBM[: len(WEBM) * 2 // 3], "truncated video"),
        ("wav", TONE[:16_000], "truncated sound"),
        ("wav", TONE[:20], "truncated sound"),
        ("ogg", OGG[: len(OGG) - 50], "truncated sound"),
        ("mp4", film([], sound=tone(2, 24_000)), "no video track"),
        ("m4a", film(), "no sound track"),
        ("wav", wav(np.zeros(0)), "sound without samples"),
        ("webm", without_clusters(WEBM), "corrupt video"),
        ("mp4", FILM.replace(b"avc1", b"xxxx"), "codec of the video is not read"),
        ("wav", sound_file(tone(1, 24_000), 24_000, "adpcm_ms", "wav"), "codec of the sound is not read"),
        ("wav", wav(tone(1, 16_000), rate=1_000), "sample rate of the sound is not 4 to 384 kHz"),
        ("wav", wav(tone(1, 16_000), rate=2**31 - 1), "sample rate of the sound is not 4 to 384 kHz"),
        ("mp4", FILM + struct.pack(">I", 16) + b"uuidcmov" + bytes(4), "compressed index is not read"),
    ],
)
def test_each_thing_has_a_cause(name, content, expected):
    assert cause({name: content}) == expected


def test_a_sample_without_media_is_no_clip():
    assert cause({"txt": b"a dog"}) == "no video, image or sound"


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 1 RTP/AVP 96\n",
        b'<?xml version="1.0"?><MPD><Period><BaseURL>http://127.0.0.1:1/</BaseURL></Period></MPD>',
        b"YUV4MPEG2 W2 H2 F25:1\nFRAME\n" + bytes(6),
    ],
)
def test_nothing_that_names_other_files_is_opened(content):
    """FFmpeg would take these for what they are, whatever they are called, and open what they name."""
    assert container_of(content) is None
    assert cause({"mp4": content}) in ("text in place of video", "unknown format of video")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("wav", sound_file(tone(1, 24_000), 24_000, "libmp3lame", "mp3")),
        ("mp3", sound_file(tone(1, 24_000), 24_000, "flac", "flac")),
        ("opus", TONE),
        ("mp4", film(container="webm", codec="libvpx-vp9", sound=tone(2, 48_000), rate=48_000, sound_codec="libopus")),
        ("webm", FILM),
    ],
)
def test_bytes_say_what_a_file_is_whatever_it_is_called(name, content):
    clip = read({name: content})
    assert clip.wave is not None and (clip.frames is None) == (name in ("wav", "mp3", "opus"))


def test_a_cover_is_no_video():
    """A picture beside the sound, as music files have it, is one attached frame."""
    frame = film([grey(0)], codec="mjpeg", container="mkv", options={"strict": "unofficial"})
    assert read({"mp4": frame}).frames is not None
    plain = film([], sound=tone(1, 24_000))
    assert cause({"mp4": plain}) == "no video track"


def test_silence_is_noted_and_counts_as_missing():
    clip = read({"mp4": film(sound=np.zeros(48_000, np.float32))})
    assert clip.wave is None and clip.frames is not None and clip.notices == [SILENT]
    with pytest.raises(BadSample, match=f"^{SILENT}$"):
        read({"wav": wav(np.zeros(16_000))}, required=("audio",))


@pytest.mark.parametrize(
    ("required", "fields", "expected"),
    [
        (("video",), {"wav": TONE}, "no video or image"),
        (("audio",), {"mp4": film()}, "no sound in the clip"),
        (("text",), {"mp4": FILM}, "missing caption"),
    ],
)
def test_what_has_to_be_there_has_to_be_there(required, fields, expected):
    with pytest.raises(BadSample, match=f"^{expected}$"):
        read(fields, required)


# Limits


def test_limits_are_kept():
    assert cause({"mp4": FILM}, max_seconds=1.5) == "video longer than data.clips.max_seconds"
    assert cause({"wav": TONE}, max_seconds=0.5) == "sound longer than data.clips.max_seconds"
    assert cause({"mp4": FILM}, max_frame_pixels=64 * 48 - 1) == "video: too many pixels"
    assert read({"mp4": FILM}, max_frame_pixels=64 * 48, max_seconds=2.2).frames is not None
    too_many = "decodes to more than data.clips.max_decoded_bytes"
    assert cause({"mp4": FILM}, max_decoded_bytes=3 * 64 * 48 - 1) == f"video {too_many}"
    assert cause({"wav": TONE}, max_decoded_bytes=1000) == f"sound {too_many}"


def test_a_file_that_claims_hours_is_refused_before_it_is_read():
    assert cause({"webm": claiming(WEBM, 36_000)}) == "video longer than data.clips.max_seconds"


def test_frames_that_are_larger_than_the_file_says_are_not_decoded():
    """The container says 16 x 16, the stream 64 x 48."""
    at = FILM.index(b"avc1") + 4 + 24
    content = FILM[:at] + struct.pack(">HH", 16, 16) + FILM[at + 4 :]
    assert cause({"mp4": content}, max_frame_pixels=1000) in (
        "corrupt video",
        "video without frames",
        "video: too many pixels",
    )


@pytest.mark.parametrize("samples", [10**8, 2**32 - 1])
def test_an_index_of_any_length_is_not_built(samples):
    """A sample size for all, and as many of them as one likes: a kilobyte that FFmpeg makes gigabytes of."""
    content = with_field(with_field(FILM, b"stsz", 4, 24), b"stsz", 8, samples)
    assert cause({"mp4": content}) == index_work.TOO_MUCH_WORK


def test_edits_multiply_an_index():
    content = with_field(FILM, b"elst", 4, 2**20)
    assert cause({"mp4": content}) == index_work.TOO_MUCH_WORK


def test_packets_are_counted(monkeypatch):
    monkeypatch.setattr(tracks, "MAX_PACKETS", 3)
    assert cause({"mp4": FILM}) == "corrupt video"


def test_samples_in_one_place_are_not_read_again_and_again(monkeypatch):
    """All chunks of an index may lie over each other."""
    monkeypatch.setattr(tracks, "_bytes_of", lambda opened: 100)
    assert cause({"mp4": FILM}) == "corrupt video"


def test_decoding_stops_at_what_is_needed():
    """Of a long video, with a keyframe every second, the clip and what is before it to the keyframe."""
    content = film([grey(i % 16) for i in range(160)], gop=8)
    assert read({"mp4": content}, max_decoded_bytes=12 * 3 * 64 * 48).frames is not None
    with media(content, max_decoded_bytes=12 * 3 * 64 * 48) as opened, pytest.raises(BadSample):
        for packet in opened.container.demux(opened.video):
            opened.spend(3 * 64 * 48 if packet.size else 0)


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("captions", 0, "1 to 64"),
        ("captions", 65, "1 to 64"),
        ("max_seconds", 0.0, "more than 0 seconds"),
        ("max_seconds", float("nan"), "more than 0 seconds"),
        ("max_frame_pixels", 0, "an integer >= 1"),
        ("max_decoded_bytes", 0, "an integer >= 1"),
    ],
)
def test_impossible_options_are_named(field, value, accepted):
    with pytest.raises(InputError, match=rf"^data\.clips\.{field}: .*{accepted}"):
        check_clips(ClipsConfig(**{field: value}))


# Others' files


UNUSUAL = {
    "header_without_samples.wav": "sound without samples",
    "no_video_track.mp4": "no video track",
    "text_named.mp4": "text in place of video",
    "truncated.wav": "truncated sound",
    "truncated_faststart.mp4": "truncated video",
    "truncated_without_moov.mp4": "truncated video, its index (moov) is missing",
    "zero_bytes.mp4": "empty video file",
    "zero_bytes.wav": "empty sound file",
}
SILENT_ONES = ("silence.wav", "silent_track.mp4")
WITHOUT_SOUND = ("no_audio_track.mp4", "one_frame.mp4")
FOLDER = Path(os.environ.get("TCL_UNUSUAL_MEDIA_DIR", "no such folder"))


@pytest.mark.parametrize(
    "path",
    sorted(FOLDER.glob("*")) or [pytest.param(None, marks=pytest.mark.skip(reason="TCL_UNUSUAL_MEDIA_DIR"))],
    ids=lambda path: path.name if path else "none",
)
def test_unusual_media_are_read_or_have_a_cause(path):
    fields = {path.suffix[1:]: path.read_bytes(), "txt": b"a dog"}
    if path.name in UNUSUAL:
        assert cause(fields) == UNUSUAL[path.name]
        return
    clip = read(fields)
    assert (clip.frames is not None) == (path.suffix in (".mp4", ".webm"))
    assert (clip.wave is None) == (path.name in SILENT_ONES + WITHOUT_SOUND)
    assert clip.notices == ([SILENT] if path.name in SILENT_ONES else [])
