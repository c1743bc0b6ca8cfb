"""What requests speak of, as the models take it: a text, an image of the index, or an image that came along. Where the
index is of clips and sounds, images are these too."""

from dataclasses import dataclass

from tcl.index.read_item import Seen


@dataclass(frozen=True)
class Text:
    """As it came."""

    text: str


@dataclass(frozen=True)
class Known:
    """An image of the index."""

    id: int


@dataclass(frozen=True)
class Picture:
    """An image that came with a request."""

    seen: Seen
    """What the reader of the stages gave of it."""


Content = Text | Known | Picture


def is_text(content: Content) -> bool:
    """Else it is an image."""
    return isinstance(content, Text)
