"""Files as people have them to what is in them: a path, the bytes of a file, or one that is opened for reading."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from tcl.data.shards.bad_sample import BadSample
from tcl.errors import InputError

Encoded = bytes | bytearray | memoryview
"""The content of a file."""
FileLike = str | os.PathLike[str] | Encoded | BinaryIO
MAX_BYTES = 2**30
"""Of a file: no more is read of one that never ends."""
CHUNK = 2**20

Decoded = TypeVar("Decoded")


def is_file_like(value: object) -> bool:
    """Is it one of FileLike?"""
    return isinstance(value, str | os.PathLike | Encoded) or hasattr(value, "read")


def listed(given: Any, name: str, is_one: Callable[[object], bool], refusal: str) -> list:
    """What `is_one`, or several of them, as a list, in which opened files have become their bytes.

    InputError, naming `name`: none at all, something else, of which `refusal` says what it is not and what to give, an
    opened file that cannot be read.
    """
    if is_one(given):
        given = [given]
    if not isinstance(given, Iterable):
        raise InputError(f"{name}: a {type(given).__name__} {refusal}, or a list of them")
    found = list(given)
    if not found:
        raise InputError(f"{name}: there are none; give at least one")
    for i, one in enumerate(found):
        if not is_one(one):
            raise InputError(f"{name}[{i}]: a {type(one).__name__} {refusal}")
        found[i] = at_hand(one, f"{name}[{i}]")
    return found


def at_hand(value: object, name: str) -> object:
    """`value`, of which an opened file is read now, from its beginning where it has one: it may be closed, or at its
    end, when it is needed. InputError, naming `name`: it cannot be read."""
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if not hasattr(value, "read"):
        return value
    try:
        if hasattr(value, "seekable") and value.seekable():
            value.seek(0)
        return _read_at_most(value)
    except Exception as error:  # of whatever library the file is
        said = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name}: the file cannot be read ({said}); give one opened with 'rb'") from error


def decoded(
    file: str | os.PathLike[str] | bytes, name: str, accepted: str, decode: Callable[[bytes], Decoded]
) -> Decoded:
    """What `decode` makes of the content of a file that is `at_hand`.

    InputError, which begins with `name` and ends with `accepted`: no such file, over MAX_BYTES, a BadSample of
    `decode`.
    """
    what = f"{len(file):,} bytes" if isinstance(file, bytes) else repr(str(file))
    try:
        if not isinstance(file, bytes) and not os.path.isfile(file):  # a device may never end
            raise InputError(f"{name}: {what} is no file; {accepted}")
        content = file if isinstance(file, bytes) else _read_path(Path(file))
        if len(content) > MAX_BYTES:
            raise InputError(f"{name}: {what} cannot be used: over {MAX_BYTES:,} bytes; {accepted}")
        return decode(content)
    except BadSample as problem:
        raise InputError(f"{name}: {what} cannot be used: {problem}; {accepted}") from problem
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: {what} cannot be read ({' '.join(str(error).split())}); {accepted}") from error


def _read_path(path: Path) -> bytes:
    with path.open("rb") as file:
        return _read_at_most(file)


def _read_at_most(file: BinaryIO) -> bytes:
    """All of it, or somewhat more than MAX_BYTES."""
    content = bytearray()
    while len(content) <= MAX_BYTES and (some := file.read(CHUNK)):
        content += some
    return bytes(content)
