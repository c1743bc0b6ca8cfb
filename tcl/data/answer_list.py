"""Closed lists of answers: text files with an answer a line."""

from pathlib import Path

from tcl.errors import InputError


def read_answer_list(path: Path, field: str) -> list[str]:
    """The answers of a file that is there, spaces squeezed, without empty lines.

    InputError, naming the config field or option `field`: not UTF-8, or no answers.
    """
    try:
        lines = [" ".join(line.split()) for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(f"{field}: {path} is not UTF-8 ({error.reason}); save it as UTF-8 text") from error
    found = [line for line in lines if line]
    if not found:
        raise InputError(f"{field}: {path} is empty; give one answer a line")
    return found
