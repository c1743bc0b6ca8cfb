"""What an image would cost to decode, told from its bytes: small files can ask for minutes. JPEGs may have any number
of scans, each of which goes over all pixels; and Pillow's readers take their time over each header."""

import re
import struct
from collections.abc import Iterator
from itertools import islice

from tcl.data.shards.bad_sample import BadSample

TOO_MUCH_WORK = "too much work to decode"

MAX_SCANS = 100
"""Of a JPEG. Progressive ones have about ten."""
FULL_SCANS = 20
"""Scans of an image of max_pixels; smaller ones may have more."""
MAX_HEADERS = 20_000
"""Segments of a JPEG, chunks of a PNG (a thousand of 8 KiB make 8 MiB), entries of a TIFF."""
MAX_COMMENT_BYTES = 2**20
"""Of a GIF before its image, and of all a TIFF's first directory beyond the file itself."""
MAX_RUN_LENGTH_BYTES = 2**22
"""Of a BMP with runs, which Pillow decodes in Python."""

_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
"""Of a segment, or of the end: neither a byte 0xFF of a scan nor one of the markers within it."""
SCAN = 0xDA
_SEQUENTIAL = (0xC0, 0xC1, 0xC9)
_TIFF_TYPES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TIFF_TILE = (322, 323)


def check_work(content: bytes, kind: str | None, max_pixels: int) -> None:
    """kind: of tcl.data.images.image_format. BadSample: the headers alone, or a tile, would cost too much."""
    if (
        (kind == "JPEG" and len(_jpeg_header(content)) == MAX_HEADERS)
        or (kind == "PNG" and len(list(islice(png_chunks(content), MAX_HEADERS))) == MAX_HEADERS)
        or (kind == "GIF" and _gif_header_bytes(content) > MAX_COMMENT_BYTES)
        or (kind == "TIFF" and not _tiff_is_modest(content, max_pixels))
        or (kind == "BMP" and content[30:34] in (b"\1\0\0\0", b"\2\0\0\0") and len(content) > MAX_RUN_LENGTH_BYTES)
    ):
        raise BadSample(TOO_MUCH_WORK)


def check_scans(content: bytes, pixels: int, max_pixels: int) -> None:
    """Of a JPEG with several scans. BadSample: more than MAX_SCANS, or than FULL_SCANS would take at max_pixels."""
    # Within a scan the marker cannot occur, but it may in other segments, such as a preview's.
    scans = content.count(b"\xff\xda")
    if scans > MAX_SCANS or scans * pixels > FULL_SCANS * max_pixels:
        scans = count_scans(content)
    if scans > MAX_SCANS or scans * pixels > FULL_SCANS * max_pixels:
        raise BadSample(TOO_MUCH_WORK)


def count_scans(content: bytes) -> int:
    """Scans of a JPEG, >= 0."""
    return sum(marker == SCAN for marker, _ in jpeg_segments(content))


def _jpeg_header(content: bytes) -> list[tuple[int, int]]:
    """Of the segments up to the first scan, MAX_HEADERS at most, and that scan."""
    header = []
    for segment in islice(jpeg_segments(content), MAX_HEADERS):
        header.append(segment)
        if segment[0] == SCAN:
            break
    return header


def has_one_scan(content: bytes) -> bool:
    """Whether the first scan of a sequential JPEG has all components: libjpeg then refuses another."""
    header = _jpeg_header(content)
    frames = [content[at + 7] for marker, at in header if marker in _SEQUENTIAL and at + 7 < len(content)]
    last = header[-1] if header else (0, 0)
    return last[0] == SCAN and len(frames) == 1 and content[last[1] + 2 : last[1] + 3] == bytes(frames)


def jpeg_segments(content: bytes) -> Iterator[tuple[int, int]]:
    """(marker, place of the length after it) of a JPEG's segments, until its end or where they end; what lies between
    segments is passed over."""
    at = 2
    while (found := _MARKER.search(content, at)) and found[0][1] != 0xD9:
        at = found.end()
        yield found[0][1], at
        at += max(2, int.from_bytes(content[at : at + 2], "big"))


def png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(type, start, length) of the contents of a PNG's chunks, up to IEND; the last may be longer than what is left."""
    at = 8
    while at + 8 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        yield kind, at + 8, length
        if kind == b"IEND":
            return
        at += length + 12


def _gif_header_bytes(content: bytes) -> int:
    """Bytes of a GIF's extensions before its first image."""
    if len(content) < 13:
        return 0
    start = at = 13 + (3 << ((content[10] & 7) + 1) if content[10] & 0x80 else 0)
    while content[at : at + 1] == b"!" and at - start <= MAX_COMMENT_BYTES:
        at += 2
        while at < len(content) and content[at] and at - start <= MAX_COMMENT_BYTES:
            at += content[at] + 1
        at += 1
    return at - start


def _tiff_is_modest(content: bytes, max_pixels: int) -> bool:
    """Whether the first directory's entries are few, do not read the file over and over, and tile no enormous tiles."""
    order = "<" if content[:2] == b"II" else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    head, count, entry = ("8xQ", "Q", "HHQ8s") if big else ("4xI", "H", "HHI4s")
    tile = dict.fromkeys(_TIFF_TILE, 1)
    try:
        (at,) = struct.unpack_from(order + head, content)
        (entries,) = struct.unpack_from(order + count, content, at)
        at += struct.calcsize(order + count)
        total, step = 0, struct.calcsize(order + entry)
        for i in range(min(entries, MAX_HEADERS)):
            tag, kind, values, value = struct.unpack_from(order + entry, content, at + i * step)
            total += values * _TIFF_TYPES.get(kind, 1)
            if tag in tile:
                tile[tag] = struct.unpack_from(order + ("H" if kind == 3 else "I"), value)[0]
    except struct.error:
        return True  # cut off: Pillow says so
    # Entries that say they have more than the file holds are not read.
    return (
        entries < MAX_HEADERS
        and min(total, entries * len(content)) <= 2 * len(content) + MAX_COMMENT_BYTES
        and tile[322] * tile[323] <= max_pixels + 2**20
    )
