"""Milvus, for more images than one machine searches: a collection with ids, embeddings, paths and dates.

`--uri http://host:19530` is a server or cluster; a path that ends in .db is milvus-lite, the same engine in a file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from tcl.data.texts.captions import spelt_out
from tcl.errors import InputError
from tcl.index.within import Within
from tcl.optional_package import import_optional

if TYPE_CHECKING:
    from tcl.index.engine import Entries, Update

FLAT_UP_TO = 100_000
"""Above that Milvus chooses the kind of its index."""
AT_A_TIME = 1000
LONGEST_PATH = 65_535
UNDATED = -(2**62)
"""Where an image has no date."""


class MilvusEngine:
    """As tcl.index.engine.Engine says."""

    def __init__(self, uri: str, collection: str, embed_dim: int):
        self.uri, self.collection, self.embed_dim = uri, collection, embed_dim
        self._client, self._loaded = None, False

    def update(self, update: "Update") -> None:
        """As Engine.update: what is told again replaces what was there."""
        with self._connected() as client:
            entries = update.pending
            if not client.has_collection(self.collection):
                self._create(client, update.count)
                entries = update.all
            self._outgrow_flat(client, update.count)
            for start in range(0, len(update.removed), AT_A_TIME):
                ids = update.removed[start : start + AT_A_TIME].tolist()
                client.delete(self.collection, ids=ids)
            for some in entries():
                for start in range(0, len(some.ids), AT_A_TIME):
                    client.upsert(self.collection, _rows(some, slice(start, start + AT_A_TIME)))
            client.flush(self.collection)

    def search(self, query: np.ndarray, k: int, within: Within | None) -> np.ndarray:
        """As Engine.search."""
        with self._connected() as client:
            if not self._loaded:
                client.load_collection(self.collection)
                self._loaded = True
            (found,) = client.search(
                self.collection,
                [query.tolist()],
                limit=k,
                filter=_expression(within),
                output_fields=["id"],
                search_params={"metric_type": "IP"},
                consistency_level="Strong",
            )
        return np.array([one["id"] for one in found], np.int64)

    def describe(self) -> str:
        """As Engine.describe."""
        with self._connected() as client:
            kind = client.describe_index(self.collection, "embedding")["index_type"]
        return f"milvus at {self.uri}, {kind.lower()}"

    def close(self) -> None:
        """As Engine.close."""
        if self._client is not None:
            self._client.close()
            self._client, self._loaded = None, False

    def _create(self, client, count: int) -> None:
        kinds = _pymilvus().DataType
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", kinds.INT64, is_primary=True)
        schema.add_field("embedding", kinds.FLOAT_VECTOR, dim=self.embed_dim)
        schema.add_field("path", kinds.VARCHAR, max_length=LONGEST_PATH)
        schema.add_field("taken", kinds.INT64)
        indexes = _index_of(client, count)
        client.create_collection(self.collection, schema=schema, index_params=indexes)

    def _outgrow_flat(self, client, count: int) -> None:
        """From the one kind of index to the other, once there are so many."""
        if count <= FLAT_UP_TO or client.describe_index(self.collection, "embedding")["index_type"] != "FLAT":
            return
        client.release_collection(self.collection)
        client.drop_index(self.collection, "embedding")
        client.create_index(self.collection, _index_of(client, count))
        client.load_collection(self.collection)

    @contextmanager
    def _connected(self) -> Iterator:
        """InputError: no server there, or what it says."""
        milvus = _pymilvus()
        try:
            if self._client is None:
                self._client = milvus.MilvusClient(uri=self.uri)
            yield self._client
        except milvus.MilvusException as error:
            said = " ".join(str(error.message).split()) or f"code {error.code}"
            raise InputError(f"uri: Milvus at {self.uri} cannot be used ({said})") from error


def _index_of(client, count: int):
    indexes = client.prepare_index_params()
    indexes.add_index("embedding", index_type="FLAT" if count <= FLAT_UP_TO else "AUTOINDEX", metric_type="IP")
    return indexes


def _rows(entries: "Entries", some: slice) -> list[dict[str, object]]:
    columns = (entries.ids[some].tolist(), entries.embeddings[some].tolist(), entries.paths[some], entries.taken[some])
    return [
        {
            "id": id,
            "embedding": embedding,
            "path": _storable(path),
            "taken": UNDATED if taken is None else taken,
        }
        for id, embedding, path, taken in zip(*columns, strict=True)
    ]


def _storable(path: str) -> str:
    """Bytes that are no text are spelt out, and what is too long is cut."""
    return spelt_out(path).encode()[:LONGEST_PATH].decode("utf-8", "ignore")


def _expression(within: Within | None) -> str:
    if within is None:
        return ""
    wanted: list[str] = []
    if within.folder is not None:
        folder = _storable(within.folder.strip("/"))
        below, beyond = _quoted(folder + "/"), _quoted(folder + "0")  # 0 follows /
        wanted.append(f"(path >= {below} and path < {beyond})")
    if within.since is not None:
        wanted.append(f"taken >= {within.since}")
    if within.until is not None:
        wanted.append(f"taken <= {within.until} and taken > {UNDATED}")
    return " and ".join(wanted)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _pymilvus() -> ModuleType:
    return import_optional("pymilvus", "milvus")
