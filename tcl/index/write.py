"""What `tcl index` does: make an index or find the one that is there, and bring it up to date."""

import contextlib
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tcl.errors import InputError
from tcl.index.build import Built, help_update, update_index
from tcl.index.description import FILE, Description, Embeddings, EngineName, Tokens, read_description, write_description
from tcl.index.engine import open_engine
from tcl.index.index import check_model
from tcl.index.info import info_of
from tcl.index.share import Share
from tcl.index.stages import Stages
from tcl.index.store import BANK, CODEBOOKS, Store, only_writer, told
from tcl.inference.embeddings_file import read_embeddings
from tcl.optional_package import import_optional
from tcl.whole_file import partial_of

DEFAULT_TEMPERATURE = 0.05
PACKAGES = {"faiss": ("faiss", "search"), "milvus": ("pymilvus", "milvus")}
"""Of an engine, and its dependency group."""


@dataclass(frozen=True)
class Wanted:
    """How an index is to be; None: as it is, or else as the default says."""

    images: str | None = None
    """A folder, absolute."""
    shards: str | None = None
    embeddings: Embeddings | None = None
    """Default: fp16; codes of a model that has codebooks."""
    tokens: Tokens | None = None
    """Default: int8 of a model that matches, else none."""
    bank: str | None = None
    """A file of embeddings of queries."""
    bank_temperature: float | None = None
    engine: EngineName | None = None
    """Default: faiss."""
    uri: str | None = None


def write_index(
    folder: Path, wanted: Wanted, stages: Stages, share: Share, *, workers: int
) -> tuple[Built, dict[str, object]] | None:
    """What was done, and what the index is now; None on other ranks than 0. Called on every process.

    InputError, on all of them: an index that is otherwise, of another model or damaged, another process that writes, a
    full disk, nothing to read.
    """
    if share.rank > 0:
        description = share.agree(None)
        if isinstance(description, str):
            raise InputError(description)
        help_update(description, stages, share, workers=workers)
        return None
    with contextlib.ExitStack() as opened:
        try:
            new = not (folder / FILE).exists()
            opened.enter_context(only_writer(folder))
            description = _begun(folder, wanted, stages) if new else _found(folder, wanted, stages)
            store = opened.enter_context(contextlib.closing(Store(folder, description, writable=True)))
        except InputError as error:
            share.agree(str(error))
            raise
        share.agree(description)
        engine = opened.enter_context(contextlib.closing(open_engine(folder, description, store)))
        built = update_index(store, engine, stages, share, workers=workers)
        return built, info_of(store, engine)


def make_index(folder: str | Path, wanted: Wanted, stages: Stages) -> None:
    """An index without images, for `Index.add`. InputError: there is one, or it cannot be written."""
    folder = Path(folder)
    with only_writer(folder):
        if (folder / FILE).exists():
            raise InputError(f"index: {folder} is one already; open it, or name another folder")
        Store(folder, _begun(folder, wanted, stages), writable=True).close()


def _begun(folder: Path, wanted: Wanted, stages: Stages) -> Description:
    """A new one, of which index.json is written last."""
    embeddings = wanted.embeddings or ("fp16" if stages.codebooks is None else "codes")
    tokens = wanted.tokens or ("none" if stages.token_shape is None else "int8")
    engine = wanted.engine or "faiss"
    if embeddings == "codes" and stages.codebooks is None:
        raise InputError(f"embeddings: {stages.source} has no codebooks to make codes of; accepted: fp32, fp16, int8")
    if tokens != "none" and stages.token_shape is None:
        raise InputError(
            f"tokens: {stages.source} does not match images with texts; accepted: none, or others with --matcher"
        )
    if (engine == "milvus") != (wanted.uri is not None):
        raise InputError("uri: it belongs to --engine milvus; give both, or neither")
    import_optional(*PACKAGES[engine])
    with told(folder):
        others = [path.name for path in folder.iterdir() if path.name != ".lock" and not _is_ours(path)]
        if others:
            raise InputError(f"index: {folder} holds other files ({others[0]!r}); name a folder of its own")
        if wanted.bank is not None:
            given = read_embeddings(Path(wanted.bank), "bank")
            bank = stages.bank_rows(given)
            if bank is None or not len(bank):
                raise InputError(
                    f"bank: {wanted.bank} holds {list(given.shape)}; give at least one query, of {stages.text_dim} "
                    f"numbers as this model embeds them"
                )
            with (folder / BANK).open("wb") as file:
                np.save(file, bank)
        if embeddings == "codes":
            with (folder / CODEBOOKS).open("wb") as file:
                np.save(file, stages.codebooks)
        description = Description(
            model=stages.source,
            embedding_maker=stages.embedding_maker,
            embed_dim=stages.embed_dim,
            embeddings=embeddings,
            tokens=tokens,
            token_shape=None if tokens == "none" else stages.token_shape,
            matcher=None if tokens == "none" else stages.matcher_source,
            token_maker=None if tokens == "none" else stages.token_maker,
            images=wanted.images,
            shards=wanted.shards,
            bank=wanted.bank is not None,
            bank_temperature=wanted.bank_temperature or DEFAULT_TEMPERATURE,
            engine=engine,
            uri=wanted.uri,
            collection=f"tcl_{secrets.token_hex(8)}",
        )
        write_description(folder, description)
    return description


def _found(folder: Path, wanted: Wanted, stages: Stages) -> Description:
    """The one that is there, which is as it is wanted."""
    description = read_description(folder)
    check_model(description, stages, folder)
    names = ("images", "shards", "embeddings", "tokens", "engine", "uri", "bank_temperature")
    for name in names:
        asked, there = getattr(wanted, name), getattr(description, name)
        if asked is not None and asked != there:
            raise InputError(f"{name}: {asked}, but {folder} is of {there}; leave it out, or write another index")
    if wanted.bank is not None and not description.bank:
        raise InputError(f"bank: {folder} was written without one; write another index")
    matcher = None if description.tokens == "none" else stages.matcher_source
    if (description.model, description.matcher) != (stages.source, matcher):  # the same weights lie elsewhere now
        description = replace(description, model=stages.source, matcher=matcher)
        with told(folder):
            write_description(folder, description)
    return description


def _is_ours(path: Path) -> bool:
    """What a first start leaves that was stopped before index.json was there."""
    return path.name in (BANK, CODEBOOKS, partial_of(Path(FILE)).name)
