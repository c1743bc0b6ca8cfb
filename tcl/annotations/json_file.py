"""Reading annotation files: JSON as a whole and JSON lines, with bounds on what is read into memory."""

import errno
import json
import os
import select
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from tcl.annotations.recognise import is_one_value, structure_of
from tcl.annotations.row import BAD_JSON, TOO_MUCH_TEXT
from tcl.errors import InputError

LARGEST_JSON = 4 * 2**30
"""Bytes of a file that is one JSON value, and of what a pipe may bring."""
LONGEST_LINE = 8 * 2**20
"""Bytes of a line; longer ones are passed over."""
PIPE_SECONDS = 5
"""A named pipe that nobody has begun to write to is taken for empty after this long."""

_CHUNK = 2**20
_BOM = b"\xef\xbb\xbf"
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh91AY": "bzip2", b"\xfd7zXZ": "xz", b"PK\x03\x04": "zip", b"(\xb5/\xfd": "zstd"}
_WIDE = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class BadLine:
    """A line that holds no JSON."""

    cause: str


def open_annotations(path: Path, structure: str, field: str = "annotations") -> BinaryIO:
    """The file given as option `field`, seekable, for the caller to close; of a pipe, a temporary copy.

    InputError: not there, a folder or a device, compressed, empty.
    """
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(kind) and not stat.S_ISFIFO(kind):
            raise InputError(f"{field}: {path} is a device, not a file; give a {structure} file")
        file = _copy_of_pipe(path, field) if stat.S_ISFIFO(kind) else path.open("rb")
    except OSError as error:
        raise InputError(f"{field}: {path} cannot be read ({error.strerror}); give a {structure} file") from error
    start = file.read(8)
    file.seek(0)
    packed = next((name for mark, name in _COMPRESSED.items() if start.startswith(mark)), None)
    if packed is not None:
        raise InputError(f"{field}: {path} is compressed ({packed}); unpack it first")
    if not start:
        raise InputError(f"{field}: {path} is empty; give a {structure} file with rows")
    return file


def _copy_of_pipe(path: Path, field: str) -> BinaryIO:
    # Opened so that a pipe without a writer does not block for ever.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as pipe:
        select.select([pipe], [], [], PIPE_SECONDS)
        os.set_blocking(pipe.fileno(), True)
        copy = tempfile.TemporaryFile()  # noqa: SIM115
        while chunk := pipe.read(_CHUNK):
            if copy.tell() > LARGEST_JSON:
                raise InputError(f"{field}: {path} brings more than {LARGEST_JSON >> 30} GiB; write it to a file")
            copy.write(chunk)
    copy.seek(0)
    return copy


def read_json(path: Path, structure: str, field: str = "annotations") -> object:
    """The JSON of a whole file, given as option `field`; NaN in it is null. InputError: unreadable, empty, not JSON."""
    with open_annotations(path, structure, field) as file:
        return _whole(file, path, structure, field)


def _whole(file: BinaryIO, path: Path, structure: str, field: str) -> object:
    if os.fstat(file.fileno()).st_size > LARGEST_JSON:
        raise InputError(f"{field}: {path} is larger than {LARGEST_JSON >> 30} GiB; write a row per line as for jsonl")
    content = file.read()
    if not content.strip():
        raise InputError(f"{field}: {path} is empty; give a {structure} file with rows")
    try:
        return _loads(content)
    except MemoryError:
        raise InputError(f"{field}: {path} does not fit into memory; write a row per line as for jsonl") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{field}: {path} is not JSON ({error}); {_advice(content, structure)}") from error


def _advice(content: bytes, structure: str) -> str:
    first = _parse(content[:LONGEST_LINE].removeprefix(_BOM).lstrip().partition(b"\n")[0])
    if isinstance(first, dict):
        return f"for a row per line use --from {'vqa' if 'question' in first else 'jsonl'}"
    return f"give a whole {structure} file"


def read_json_lines(path: Path, structure: str) -> Iterator[tuple[str, object | BadLine]]:
    """'line 3' and what that line holds, or why it holds nothing; blank lines are passed over.

    InputError, at once: unreadable, empty, or one JSON value.
    """
    lines, content = read_lines_or_json(path, structure)
    if lines is not None:
        return lines
    if isinstance(content, list):
        better = structure_of(content) or "json"
        raise InputError(f"annotations: {path} starts with a list, not with a row; use --from {better}")
    better = structure_of(content) or "coco"
    raise InputError(f"annotations: {path} is one JSON object, not a row per line; is it --from {better}?")


def read_lines_or_json(path: Path, structure: str) -> tuple[Iterator[tuple[str, object | BadLine]] | None, object]:
    """The rows of a file with one per line, as read_json_lines gives them, or else None and the file's one JSON value.

    InputError: unreadable, empty, a list that is not JSON.
    """
    file = open_annotations(path, structure)
    check_utf8(file, path)
    lines = [line for _, line in islice(_not_blank(file), 2)]
    file.seek(0)
    if not lines:
        raise InputError(f"annotations: {path} is empty; give a {structure} file with rows")
    if all(line is not None and line.strip()[:1].isalnum() and isinstance(_parse(line), BadLine) for line in lines):
        raise InputError(f"annotations: {path} holds no JSON; is it --from csv or tsv?")
    row = _parse(lines[0])
    if _starts_with_list(file) or (isinstance(row, dict) and is_one_value(row)):
        return None, _whole(file, path, structure, "annotations")
    only_one_is_bad = len(lines) == 2 and isinstance(_parse(lines[1]), dict)
    if isinstance(row, BadLine) and not only_one_is_bad and os.fstat(file.fileno()).st_size <= LARGEST_JSON:
        try:  # the first line of an object over several lines, or a damaged row
            return None, _loads(file.read())
        except (ValueError, RecursionError, MemoryError):
            file.seek(0)

    def rows() -> Iterator[tuple[str, object | BadLine]]:
        with file:
            for number, line in _not_blank(file):
                yield f"line {number}", _parse(line)

    return rows(), None


def numbered_lines(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Lines and their numbers from 1, without the byte order mark; None for one that is longer than LONGEST_LINE."""
    number = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) <= LONGEST_LINE:
            yield number, line.removeprefix(_BOM) if number == 1 else line
            continue
        while line and not line.endswith(b"\n"):
            line = file.readline(_CHUNK)
        yield number, None


def _not_blank(file: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    return ((number, line) for number, line in numbered_lines(file) if line is None or line.strip())


def check_utf8(file: BinaryIO, path: Path) -> None:
    """InputError: UTF-16 or UTF-32, as spreadsheets write them."""
    start = file.read(4)
    file.seek(0)
    if start[:2] in _WIDE or 0 in start:
        raise InputError(f"annotations: {path} is not UTF-8 (it looks like UTF-16); save it as UTF-8")


def _starts_with_list(file: BinaryIO) -> bool:
    start = file.read(_CHUNK).removeprefix(_BOM).lstrip()
    file.seek(0)
    return start.startswith(b"[")


def _parse(line: bytes | None) -> object | BadLine:
    if line is None:
        return BadLine(TOO_MUCH_TEXT)
    try:
        return _loads(line)
    except (ValueError, RecursionError, MemoryError):
        return BadLine(BAD_JSON)


def _loads(content: bytes) -> object:
    # Python writes NaN where a table had no value; no other reader of the shards takes it for JSON.
    return json.loads(content, parse_constant=lambda _: None)
