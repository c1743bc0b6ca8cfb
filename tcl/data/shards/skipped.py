"""What a command passes over, by name."""

from typing import NamedTuple


class Skipped(NamedTuple):
    """An image or text that could not be used."""

    id: str
    cause: str
