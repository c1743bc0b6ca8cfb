"""What requests speak of, as the models take it: a text, an image of the index, or an image that came along."""

from dataclasses import dataclass

from torch import Tensor


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

    pixels: tuple[Tensor, ...]
    """What `Stages.prepare` gave of it."""


Content = Text | Known | Picture


def is_text(content: Content) -> bool:
    """Else it is an image."""
    return isinstance(content, Text)
