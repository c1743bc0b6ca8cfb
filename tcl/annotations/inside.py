"""Files of a folder that names from outside may point to: what they may reach, and how much of it is read."""

import os
import stat
from pathlib import Path, PurePath
from typing import BinaryIO

from tcl.data.shards.bad_sample import BadSample

OUTSIDE = "path leaves the image folder"
LINK_OUTSIDE = "path leaves the image folder by a link"
ABSOLUTE_OUTSIDE = "path leaves the image folder; --images / takes absolute ones"
MISSING = "missing image file"
NOT_A_FILE = "not a regular file"
UNREADABLE = "image file cannot be read"
TOO_MANY_BYTES = "image file has too many bytes"
"""Causes of a skipped row."""


def read_inside(folder: Path, name: str, max_bytes: int) -> bytes:
    """What is in the file `name`, as `open_inside`. BadSample, too: it is larger than max_bytes."""
    with open_inside(folder, name) as stream:
        try:
            if os.fstat(stream.fileno()).st_size > max_bytes:
                raise BadSample(TOO_MANY_BYTES)
            content = stream.read(max_bytes + 1)
        except OSError as error:
            raise BadSample(UNREADABLE) from error
    if len(content) > max_bytes:
        raise BadSample(TOO_MANY_BYTES)
    return content


def open_inside(folder: Path, name: str) -> BinaryIO:
    """The file `name`, relative to `folder` or absolute. BadSample: it is not there.

    Nothing outside the folder is opened, whatever way leads there, and nothing but a regular file.
    """
    try:
        path = resolve_inside(folder, name)
        # A pipe without a writer would block, and the last part may have become a link since it was resolved.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW) if _is_file(path) else None
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # a null character, half a surrogate
        raise BadSample(MISSING) from error
    except OSError as error:
        raise BadSample(UNREADABLE) from error
    if file is None:
        raise BadSample(NOT_A_FILE)
    return open(file, "rb")


def resolve_inside(folder: Path, name: str) -> str:
    """Where `name` leads, links followed. BadSample: out of the folder. ValueError: a name that none can have."""
    if not os.path.isabs(name) and PurePath(os.path.normpath(name)).parts[:1] == ("..",):
        raise BadSample(OUTSIDE)
    root, path = os.path.realpath(folder), os.path.realpath(os.path.join(folder, name))
    if os.path.commonpath([path, root]) != root:
        raise BadSample(ABSOLUTE_OUTSIDE if os.path.isabs(name) else LINK_OUTSIDE)
    return path


def _is_file(path: str) -> bool:
    """BadSample: a folder, as if nothing were there."""
    mode = os.stat(path, follow_symlinks=False).st_mode
    if stat.S_ISDIR(mode):
        raise BadSample(MISSING)
    return stat.S_ISREG(mode)
