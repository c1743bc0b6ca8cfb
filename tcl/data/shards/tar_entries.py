"""The files in a tar, one after the other. Written against archives that want to be endless, enormous or circular:
a header costs no more than its bytes, sizes are only believed where bytes follow, and nothing recurses."""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass

from tcl.data.shards.shard_bytes import ShardBytes

MAX_HEADER_BYTES = 2**16
"""Long names and other extended headers that are larger are none: paths have 4,096 bytes at most."""

META_ENTRY = re.compile(r"__[^/]*__($|/)")
"""Tar entries that webdataset skips."""

_BLOCK = tarfile.BLOCKSIZE
_LONG_NAME, _LONG_LINK = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
_PAX, _GLOBAL_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE), tarfile.XGLTYPE
_DIGITS = re.compile(rb"\d{1,19}")


class MalformedTarError(Exception):
    """A header that is none, or says what cannot be; what follows it cannot be found."""


@dataclass(frozen=True)
class Entry:
    """A file in a tar, at which the stream stands: the next `size` bytes are its content unless it is sparse."""

    name: str
    """Bytes that are no UTF-8 are spelt as \\xNN, so that it can be written anywhere."""
    size: int
    """Bytes (>= 0) that it has when it is unpacked."""
    sparse: bool
    """Stored without its zeros; such a content is never unpacked."""


def tar_entries(tar: ShardBytes) -> Iterator[Entry]:
    """Regular files, but those that webdataset skips. The caller reads an entry's content, or not, before the next.

    MalformedTarError, EOFError, or whatever the stream raises: what was yielded until then is whole.
    """
    said: dict[str, bytes] = {}
    while block := tar.read(_BLOCK):
        if block.count(0) == len(block) and (len(block) == _BLOCK or tar.position > _BLOCK):
            break
        header = _header(block)
        if header.type in (_LONG_NAME, _LONG_LINK, *_PAX, _GLOBAL_PAX):
            content = _extended(tar, header.size)
            if header.type == _LONG_NAME:
                said["path"] = content.partition(b"\0")[0]
            elif header.type in _PAX:
                said.update(_records(content))
            continue
        stored = _number(said["size"]) if "size" in said else header.size
        size = _sparse_size(tar, block, header, said)
        name = said.get("GNU.sparse.name", said.get("path"))
        name = header.name if name is None else name.decode(errors="backslashreplace").rstrip("/")
        said = {}
        end = tar.position + _padded(stored if header.isreg() or header.type not in tarfile.SUPPORTED_TYPES else 0)
        if header.isreg() and not META_ENTRY.match(name):
            yield Entry(name, stored if size is None else size, size is not None)
        tar.skip(end - tar.position)
    if said or tar.position == 0:
        raise MalformedTarError("ends before a file's header")


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "backslashreplace")
    except tarfile.HeaderError as error:
        raise MalformedTarError(str(error)) from error
    if header.size < 0:
        raise MalformedTarError("a file of a negative size")
    return header


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _extended(tar: ShardBytes, size: int) -> bytes:
    if size > MAX_HEADER_BYTES:
        raise MalformedTarError(f"an extended header of {size} bytes")
    content = tar.read(_padded(size))
    if len(content) < size:
        raise EOFError("the shard ends within a header")
    return content[:size]


def _records(content: bytes) -> dict[str, bytes]:
    """Of a pax header: '<length> <keyword>=<value>\\n', one after the other."""
    records, at = {}, 0
    while at < len(content) and content[at]:
        length = _DIGITS.match(content, at)
        end = at + _number(length[0]) if length else 0
        if not length or end <= length.end() or end > len(content):
            raise MalformedTarError("a pax header that is none")
        keyword, _, value = content[length.end() + 1 : end - 1].partition(b"=")
        records[keyword.decode(errors="backslashreplace")] = value
        at = end
    return records


def _number(text: bytes) -> int:
    if not _DIGITS.fullmatch(text):
        raise MalformedTarError("a number that is none in a header")
    return int(text)


def _sparse_size(tar: ShardBytes, block: bytes, header: tarfile.TarInfo, said: dict[str, bytes]) -> int | None:
    """What a sparse file has when unpacked, None for any other; reads what its header goes on with."""
    if header.type == tarfile.GNUTYPE_SPARSE:
        goes_on = block[482]
        while goes_on:
            extension = tar.read(_BLOCK)
            if len(extension) < _BLOCK:
                raise EOFError("the shard ends within a header")
            goes_on = extension[504]
        return max(header.size, tarfile.nti(block[483:495]))
    if not any(keyword.startswith("GNU.sparse.") for keyword in said):
        return None
    return _number(said.get("GNU.sparse.realsize", said.get("GNU.sparse.size", b"0")))
