"""A file in pieces, as players ask for them: the Range header of RFC 9110, section 14.

No answer has more than LARGEST bytes, however many were asked for; a player asks for the next ones. So none takes long,
and none much memory.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from typing import BinaryIO

from starlette.responses import Response, StreamingResponse

from tcl.serve.answers import error_answer

LARGEST = 2**22
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def piece_of(header: str | None, size: int) -> range | None:
    """The bytes that a Range header asks for, of `size`, no more than LARGEST; an empty one lies beyond the file. None:
    no header, or one to be passed over: several pieces, other units."""
    found = _RANGE.fullmatch((header or "").strip())
    first, last = found.groups() if found else ("", "")
    if not first and not last:
        return None
    if not first:  # so many from the end
        return range(max(0, size - int(last)), size)[:LARGEST] if int(last) else range(0)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(size, int(last) + 1 if last else size))[:LARGEST]


def send(file: BinaryIO, media_type: str, header: str | None, headers: dict[str, str], threads: Executor) -> Response:
    """What a Range header asks for of a file, which is closed in the end; all of it without one. `threads` read."""
    size = file.seek(0, 2)
    piece, headers = piece_of(header, size), {"Accept-Ranges": "bytes"} | headers
    if piece is None:
        headers["Content-Length"] = str(size)
        return StreamingResponse(_read(file, range(size), threads), 200, headers, media_type)
    if not piece:
        file.close()
        return error_answer(416, f"range: beyond the {size:,} bytes of the file", {"Content-Range": f"bytes */{size}"})
    headers |= {"Content-Length": str(len(piece)), "Content-Range": f"bytes {piece[0]}-{piece[-1]}/{size}"}
    return StreamingResponse(_read(file, piece, threads), 206, headers, media_type)


async def _read(file: BinaryIO, piece: range, threads: Executor) -> AsyncIterator[bytes]:
    running = asyncio.get_running_loop()
    try:
        file.seek(piece.start)
        left = len(piece)
        while left:
            content = await running.run_in_executor(threads, file.read, min(left, LARGEST))
            if not content:  # it has become shorter
                return
            left -= len(content)
            yield content
    finally:
        file.close()
