"""What a reader raises for a sample that it cannot use, whatever was wrong with it, and what is told of it."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from tcl.errors import InputError


class BadSample(Exception):
    """A sample that cannot be used; str() is the cause, one of a few phrases to count by."""


class Skipped(NamedTuple):
    """What a command passes over, by name: an image or text that could not be used."""

    id: str
    cause: str


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Reading one sample: an exception that is not one of ours, out of a decoder or a tokenizer say, is a BadSample
    with its type as the cause, and does not end the process."""
    try:
        yield
    except (BadSample, InputError):
        raise
    except Exception as error:
        raise BadSample(f"{type(error).__name__} while reading") from error


def counted(bad: Counter[str]) -> str:
    """How many samples could not be used, by cause, commonest first: "3 empty caption, 1 no image"; or "none"."""
    return ", ".join(f"{count} {cause}" for cause, count in bad.most_common()) or "none"
