"""Whether a file of video or sound is all there, where its container says how long it is: FFmpeg takes what it gets."""

from tcl.data.media.index_work import check_index
from tcl.data.media.media_format import Container
from tcl.data.shards.bad_sample import BadSample

_LARGEST_WAV = 0x7FFFF000
"""Sizes from here on are written by programs that did not know theirs, into a pipe."""
_SEGMENT = b"\x18\x53\x80\x67"


def check_whole(content: bytes, kind: Container, role: str) -> None:
    """role: "video" or "sound", for the cause. BadSample: the end of the file is missing, or its index, or that asks
    for too much work.

    MP3 and FLAC say nothing of their length; of a stream that never knew its own, any part passes.
    """
    if kind == "mov":
        _check_boxes(content, role)
    elif kind == "matroska":
        _check_segment(content, role)
    elif kind == "wav":
        _check_riff(content, role)
    elif kind == "ogg":
        _check_last_page(content, role)


def _truncated(role: str) -> BadSample:
    return BadSample(f"truncated {role}")


def _check_boxes(content: bytes, role: str) -> None:
    at, names = 0, set()
    while at + 8 <= len(content):
        size, name = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        if size == 1:
            size = int.from_bytes(content[at + 8 : at + 16], "big")
        elif size == 0:  # to the end
            size = len(content) - at
        if size < 8:  # what is no box, behind the last one
            break
        names.add(name)
        if at + size > len(content) and name in (b"moov", b"mdat", b"moof"):
            if b"moov" not in names:
                raise BadSample(f"truncated {role}, its index (moov) is missing")
            raise _truncated(role)
        if name != b"mdat":
            check_index(content, at, at + size)
        at += size
    if b"moov" not in names:
        raise BadSample(f"truncated {role}, its index (moov) is missing")


def _check_segment(content: bytes, role: str) -> None:
    at = content.find(_SEGMENT, 0, 4096)
    if at < 0 or at + 5 > len(content):
        raise _truncated(role)
    first = content[at + 4]
    length = 9 - first.bit_length()  # of the size itself, in bytes
    size = int.from_bytes(content[at + 4 : at + 4 + length], "big") & ~(1 << 7 * length)
    unknown = (1 << 7 * length) - 1
    if size != unknown and at + 4 + length + size > len(content):
        raise _truncated(role)


def _check_riff(content: bytes, role: str) -> None:
    at = 12
    while at + 8 <= len(content):
        name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        if name == b"data":
            if size < _LARGEST_WAV and at + 8 + size > len(content):
                raise _truncated(role)
            return
        at += 8 + size + size % 2
    raise _truncated(role)


def _check_last_page(content: bytes, role: str) -> None:
    at = content.rfind(b"OggS")
    segments = content[at + 26] if at + 26 < len(content) else 0
    lengths = content[at + 27 : at + 27 + segments]
    if len(content) < at + 27 + segments or at + 27 + segments + sum(lengths) > len(content):
        raise _truncated(role)
