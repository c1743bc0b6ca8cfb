"""Text files that people write by hand: a list of answers, of classes, of templates."""

from pathlib import Path

from tcl.errors import InputError

LARGEST_FILE = 64 * 2**20
"""Bytes; lists of some thousand lines are a thousandth of it."""


def read_text_file(path: Path, field: str, accepted: str) -> str:
    """What a UTF-8 file holds. InputError, naming the config field or option `field` and what is `accepted`: it cannot
    be read, is larger than LARGEST_FILE, or is not UTF-8."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise InputError(f"{field}: {path} cannot be read ({error.strerror}); {accepted}") from error
    if len(content) > LARGEST_FILE:
        raise InputError(f"{field}: {path} is larger than {LARGEST_FILE >> 20} MiB; {accepted}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{field}: {path} is not UTF-8 ({error.reason}); save it as UTF-8 text") from error
