"""What an index is asked, and what it answers."""

from dataclasses import dataclass

from tcl.config.checks import require
from tcl.errors import InputError
from tcl.index.read_item import Seen
from tcl.index.within import Within, seconds


@dataclass(frozen=True)
class Query:
    """The k images that are nearest to all of these, of which there is one at least; `Index.search` says how."""

    text: str | None = None
    seen: Seen | None = None
    """Of an image, a clip or a sound, as `Stages.see` gives it."""
    like: int | None = None
    """The id of an item of the index."""
    k: int | None = None
    rerank: int = 64
    rescore: bool = False
    folder: str | None = None
    since: str | None = None
    until: str | None = None


@dataclass(frozen=True)
class Hit:
    """An image, a clip or a sound that a search found."""

    id: int
    path: str
    similarity: float
    """Cosine with the query, -1 to 1; less its hubness, where that is asked for."""
    match: float | None
    """Probability that the text belongs to it, 0 to 1; None: nothing was matched."""
    taken: int | None
    """Seconds from 1970 by the camera's clock, as if it were UTC."""
    caption: str | None
    width: int
    height: int
    """0 of a sound."""
    type: str | None = None
    """The media type by which it is played, such as video/mp4 or audio/flac; None: an image."""


def within_of(folder: str | None, since: str | None, until: str | None) -> Within | None:
    """None: all images. InputError: no date."""
    if folder is None and since is None and until is None:
        return None
    first = None if since is None else seconds(since, "since")
    last = None if until is None else seconds(until, "until", end=True)
    return Within(folder, first, last)


def check_query(query: Query, count: int, index: str, bank: bool) -> None:
    """Of an index of `count` images. InputError: nothing asked for, k beyond the index, no bank."""
    require(query.k is None or 1 <= query.k <= count, "k", query.k, f"1 to {count}, the images of {index}")
    require(query.rerank >= 0, "rerank", query.rerank, "0 or more")
    if query.rescore and not bank:
        raise InputError(f"rescore: {index} has no bank of queries; write it with `tcl index --bank FILE`")
    if query.rescore and query.text is None:
        raise InputError("rescore: hubness is that of texts; give a text")
    if query.text is None and query.seen is None and query.like is None:
        raise InputError("text: there is none, and no image; give one of them, or both")
