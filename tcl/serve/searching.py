"""/v1/search and /v1/explain on the models' thread."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tcl.errors import InputError
from tcl.index.index import Index
from tcl.index.query import Hit, Query
from tcl.inference.heat_map import HeatMap


@dataclass(frozen=True)
class Explain:
    """Where in an image a text is."""

    image: bytes
    """An image file."""
    text: str


def search(index: Index, queries: Sequence[Query]) -> list[list[Hit] | InputError]:
    """As `Index.search_many`; k may be beyond the index."""
    index.refresh()
    count = max(1, len(index))
    if index.pending == len(index) > 0:
        raise InputError(
            f"index: {index.folder} is being made, and can be searched once `tcl index` is through with it"
        )
    return index.search_many([replace(query, k=min(query.k, count)) for query in queries])


def explain(index: Index, asked: Sequence[Explain]) -> list[HeatMap | InputError]:
    """One by one: each has a backward pass of its own."""
    return [_explain(index, one) for one in asked]


def _explain(index: Index, one: Explain) -> HeatMap | InputError:
    try:
        index.stages.check_text(one.text)
        return index.stages.explain(one.image, one.text)
    except InputError as error:
        return error
