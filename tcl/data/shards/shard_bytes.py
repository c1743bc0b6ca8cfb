"""The tar in a shard's byte stream, unpacked where it is compressed; what it may expand to is bounded."""

import bz2
import errno
import gzip
import io
import lzma
import os
import stat
from collections.abc import Callable
from typing import BinaryIO

FREE_BYTES = 128 * 2**20
MAX_EXPANSION = 100
"""A compressed shard may give FREE_BYTES, and MAX_EXPANSION times as many bytes as were read of it. Photographs do not
compress at all and JSON about ten times; a gzip of zeros gives a thousand times its size."""

_READ_AHEAD = 2**13
_READ_AHEAD_IN_PIPES = 2**16
_SKIPPED_AT_ONCE = 2**20
_UNPACKERS: dict[bytes, Callable[[BinaryIO], BinaryIO]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
    b"\x5d\0\0\x80": lzma.LZMAFile,
}
"""By the first bytes of the stream."""


class NoRegularFileError(OSError):
    """A folder, a device, a pipe or a socket, which could keep a reader waiting for ever or never end."""


class ExpandsTooMuchError(Exception):
    """A compressed shard gives more bytes than FREE_BYTES and MAX_EXPANSION allow."""


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """A regular file, unbuffered. OSError: it cannot be read, or is none (NoRegularFileError)."""
    _require_regular(path, os.stat(path))  # opening alone acts on some devices
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    try:
        _require_regular(path, os.fstat(handle))  # it may have been replaced
    except OSError:
        os.close(handle)
        raise
    os.set_blocking(handle, True)
    return os.fdopen(handle, "rb", buffering=0)


def _require_regular(path: str | os.PathLike[str], found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        number, why = (errno.EISDIR, "Is a directory") if stat.S_ISDIR(found.st_mode) else (errno.EINVAL, "no file")
        raise NoRegularFileError(number, why, str(path))


class ShardBytes:
    """Reads forwards through the tar in `stream`; a plain local file is not read where it is skipped.

    Everything may raise what the stream or its decompressor raises, and ExpandsTooMuchError.
    """

    def __init__(self, stream: BinaryIO):
        self.position = 0
        """Bytes of the tar that were read or skipped."""
        self._packed = _Counted(stream)
        ahead = _READ_AHEAD if self._packed.seekable() else _READ_AHEAD_IN_PIPES
        buffered = io.BufferedReader(self._packed, ahead)
        magic = buffered.peek(1)
        unpacker = next((unpack for start, unpack in _UNPACKERS.items() if magic.startswith(start)), None)
        self._compressed = unpacker is not None
        self._bytes = unpacker(buffered) if unpacker else buffered

    def read(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end of the stream."""
        if not self._compressed:
            content = self._bytes.read(size)
            self.position += len(content)
            return content
        pieces = []
        while size > 0 and (piece := self._bytes.read(min(size, _SKIPPED_AT_ONCE))):
            pieces.append(piece)
            size -= len(piece)
            self._count(len(piece))
        return b"".join(pieces)

    def skip(self, size: int) -> None:
        """Go on after the next `size` (>= 0) bytes. EOFError: there are not as many."""
        if size > _READ_AHEAD and not self._compressed and self._packed.seekable():
            self._bytes.seek(size - 1, os.SEEK_CUR)
            self.position += size - 1
            size = 1
        while size > 0:
            skipped = len(self.read(min(size, _SKIPPED_AT_ONCE)))
            if not skipped:
                raise EOFError("the shard ends within a file")
            size -= skipped

    def _count(self, size: int) -> None:
        self.position += size
        if self.position > FREE_BYTES + MAX_EXPANSION * self._packed.count:
            raise ExpandsTooMuchError


class _Counted(io.RawIOBase):
    """Counts the bytes read from `stream`, of which no more is asked than that it has read()."""

    def __init__(self, stream: BinaryIO):
        super().__init__()
        self.count = 0
        self._stream = stream

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return isinstance(self._stream, io.FileIO)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def readinto(self, buffer: memoryview) -> int:
        content = self._stream.read(len(buffer))
        buffer[: len(content)] = content
        self.count += len(content)
        return len(content)
