"""What a file of video or sound is by its first bytes, whatever it is called."""

from typing import Literal

Container = Literal["mov", "matroska", "wav", "flac", "ogg", "mp3"]
"""FFmpeg's names of the containers that are opened; none of its other demuxers, some of which open what a file names,
is let near one."""

VIDEO_CODECS = ("h264", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "theora")
SOUND_CODECS = ("aac", "mp3", "mp2", "opus", "vorbis", "flac", "alac", "ac3", "eac3")
"""Codecs that are decoded, beside PCM."""
DECODERS = (*VIDEO_CODECS, *SOUND_CODECS, "libdav1d", "mp3float", "mp2float", "libopus", "libvorbis")
"""FFmpeg's decoders of these."""
PCM = (
    *("pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be"),
    *("pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be", "pcm_mulaw", "pcm_alaw"),
)

_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"pnot")
_TAG_BYTES = 10


def container_of(content: bytes) -> Container | None:
    """None for bytes of no container that is opened."""
    if content[:4] in (b"RIFF", b"RF64") and content[8:12] == b"WAVE":
        return "wav"
    if content[4:8] in _BOXES:
        return "mov"
    if content.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if content.startswith(b"OggS"):
        return "ogg"
    after_tag = content[_after_id3(content) :][:4]
    if after_tag == b"fLaC":
        return "flac"
    # After a tag some players' padding comes before the first frame.
    return "mp3" if content.startswith(b"ID3") or _starts_layer_3(after_tag) else None


def extension_of(content: bytes, role: Literal["video", "sound"]) -> str:
    """What a file that was opened as one of these is called in a shard."""
    kind = container_of(content)
    if kind == "mov":
        return "mp4" if role == "video" else "m4a"
    if kind == "matroska":
        return "webm" if b"webm" in content[:64] else "mkv"
    return "opus" if kind == "ogg" and b"OpusHead" in content[:128] else str(kind)


def media_type(content: bytes, modality: Literal["video", "audio"]) -> str:
    """By which browsers and mail know a file that was opened: video/mp4, audio/flac."""
    kind = container_of(content)
    matroska = "webm" if b"webm" in content[:64] else "x-matroska"
    names = {"mov": "mp4", "matroska": matroska, "mp3": "mpeg"}
    return f"{modality}/{names.get(kind, kind)}"


def described(content: bytes, role: str) -> str:
    """What a file is that no container was found in, to count it by; role: what it was to be."""
    if not content:
        return f"empty {role} file"
    return f"text in place of {role}" if _is_text(content[:1024]) else f"unknown format of {role}"


def _after_id3(content: bytes) -> int:
    """Where the bytes after an ID3 tag begin; 0 without one."""
    if not content.startswith(b"ID3") or len(content) < _TAG_BYTES:
        return 0
    size = 0
    for byte in content[6:_TAG_BYTES]:  # seven bits of each
        size = size << 7 | byte & 127
    return _TAG_BYTES + size


def _starts_layer_3(start: bytes) -> bool:
    """The header of an MP3 frame: eleven bits of one, layer III, a bit rate and a sample rate that exist."""
    if len(start) < 3 or start[0] != 0xFF or start[1] & 0xE6 != 0xE2:
        return False
    return start[2] >> 4 != 15 and start[2] >> 2 & 3 != 3


def _is_text(start: bytes) -> bool:
    try:
        start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # else a character is cut at the end
            return False
    return not any((byte < 32 and byte not in b"\t\n\r") or byte == 127 for byte in start)
