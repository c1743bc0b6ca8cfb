"""How much work the index of an MP4 asks for: a kilobyte can list any number of samples, all in the same place.

FFmpeg makes an entry of memory for each before anything is read: for each sample of a track once in each of its edits.
"""

from collections.abc import Iterator

from tcl.data.shards.bad_sample import BadSample

MAX_ENTRIES = 2**23
"""Of samples times edits: half a gigabyte. Four hours of frames and AAC are 1.5 million, a minute of PCM 3."""
TOO_MUCH_WORK = "index of more samples than are honest"
COMPRESSED = "compressed index is not read"

_COUNT_AT = {b"stsz": 12, b"stz2": 12, b"trun": 8, b"elst": 8}
"""Where the number of entries is in a box of that name, in bytes from its name on."""


def check_index(content: bytes, start: int, stop: int) -> None:
    """Looks through content[start:stop], whatever boxes are in it and wherever in one another: FFmpeg does not mind.

    BadSample: TOO_MUCH_WORK, COMPRESSED.
    """
    if content.find(b"cmov", start, stop) >= 0:
        raise BadSample(COMPRESSED)
    samples = sum(count for name in (b"stsz", b"stz2", b"trun") for count in _counts(content, start, stop, name))
    edits = max(_counts(content, start, stop, b"elst"), default=1)
    if samples * max(1, edits) > MAX_ENTRIES:
        raise BadSample(TOO_MUCH_WORK)


def _counts(content: bytes, start: int, stop: int, name: bytes) -> Iterator[int]:
    """What each box of that name says of its entries."""
    at = content.find(name, start, stop)
    while at >= 0:
        count_at = at + _COUNT_AT[name]
        yield int.from_bytes(content[count_at : count_at + 4], "big")
        at = content.find(name, at + 4, stop)
