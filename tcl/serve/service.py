"""An index that is served: what the routes have at hand."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tcl.errors import InputError
from tcl.index.description import Description, read_description
from tcl.index.index import Index
from tcl.serve.batching import Batcher
from tcl.serve.contents import Content
from tcl.serve.counters import Counters
from tcl.serve.documents import DocumentReader
from tcl.serve.limits import Limits
from tcl.serve.requests import Document
from tcl.serve.shelf import Shelf


@dataclass(frozen=True)
class Service:
    """Its parts are closed by `opened`."""

    folder: Path
    description: Description
    limits: Limits
    token: str | None
    batcher: Batcher[Index]
    shelf: Shelf
    documents: DocumentReader
    counters: Counters
    explains: bool
    """Whether heat maps can be had."""
    what: str
    """What it finds, in a word: images."""
    plays: bool
    """Whether clips and sounds are among it."""

    def check_count(self, count: int, name: str) -> None:
        """InputError: more than one request may have."""
        most = self.limits.candidates
        if count > most:
            raise InputError(f"{name}: {count:,}; at most {most:,} in one request")

    async def read_all(self, documents: list[Document], name: str) -> list[Content]:
        """As DocumentReader.read_all. InputError: too many, too."""
        self.check_count(len(documents), name)
        return await self.documents.read_all(documents, name)


@contextlib.contextmanager
def opened(
    folder: Path, open_index: Callable[[], Index], *, limits: Limits, token: str | None, follow_urls: bool
) -> Iterator[Service]:
    """The service of the index in `folder`. open_index: called on the models' thread, on which alone it is used.

    In the end what was asked is answered first. InputError: no index, no model, as `Index.open`.
    """
    limits.check()
    description = read_description(folder)
    found: list[Index] = []

    def open_it() -> Index:
        found.append(open_index())
        return found[0]

    with contextlib.ExitStack() as closing:
        batcher = Batcher(open_it, Index.close, waiting=limits.waiting)
        closing.callback(batcher.close)
        stages = found[0].stages
        shelf = Shelf(folder, description, limits.pixels)
        closing.callback(shelf.close)
        documents = DocumentReader(stages.reader, limits, follow_urls=follow_urls)
        closing.callback(documents.close)
        counters = Counters(batcher)
        explains = stages.explains and found[0].matches
        parts = (batcher, shelf, documents, counters)
        yield Service(folder, description, limits, token, *parts, explains, stages.what, stages.plays)
