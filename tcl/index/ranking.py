"""Queries to ranked images of an index: candidates from its engine, their order from its own rows (tcl.search).

Queries that come together are matched together: what an image costs, its keys and values, is paid once for all of them.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tcl.index.catalogue import Item, name_of
from tcl.index.description import Description
from tcl.index.engine import Engine
from tcl.index.query import Hit
from tcl.index.stages import Stages
from tcl.index.store import Store, TokensAt
from tcl.index.within import Within
from tcl.search.rescorings import by_stored
from tcl.search.two_stage import Search, search

ROOM_FOR_HUBS = 16
"""Times as many candidates as are ranked, where they are re-scored: hubs take places that others get."""


@dataclass(frozen=True)
class Asked:
    """A query that is embedded."""

    vector: np.ndarray
    """float32 [D], of length 1."""
    text: str | None
    """To match with; None: cosines decide."""
    wanted: int
    """How many are ranked."""
    k: int
    """How many of them are told."""
    rescore: bool
    within: Within | None


@dataclass(frozen=True)
class _Pool:
    """The candidates of one query, by id: of equal ones the later comes first, as everywhere."""

    items: list[Item]
    rows: np.ndarray
    search: Search


def rank(store: Store, engine: Engine, stages: Stages, asked: Sequence[Asked]) -> list[list[Hit]]:
    """For each query the `wanted` best or fewer, best first. InputError: the engine cannot be read or reached."""
    alike: dict[tuple[int, bool], list[int]] = {}
    for place, one in enumerate(asked):
        alike.setdefault((one.wanted, one.text is not None), []).append(place)
    answers: list[list[Hit]] = [[] for _ in asked]
    for places in alike.values():
        found = _rank_alike(store, engine, stages, [asked[place] for place in places])
        for place, hits in zip(places, found, strict=True):
            answers[place] = hits
    return answers


def _rank_alike(store: Store, engine: Engine, stages: Stages, asked: Sequence[Asked]) -> list[list[Hit]]:
    """All want as many, and all are matched or none is."""
    pools = [_pool(store, engine, one) for one in asked]
    full = [(one, pool) for one, pool in zip(asked, pools, strict=True) if pool.items]
    if not full:
        return [[] for _ in asked]

    def match(*candidates: Tensor) -> list[Tensor]:
        rows = [pool.rows[chosen[0].numpy()] for (_, pool), chosen in zip(full, candidates, strict=True)]
        return [scores[None] for scores in match_rows(store, stages, rows, [one.text for one, _ in full])]

    matched = asked[0].text is not None
    found = iter(search([pool.search for _, pool in full], asked[0].wanted, match if matched else None))
    return [_hits(store, pool, next(found).best, matched) if pool.items else [] for pool in pools]


def match_rows(store: Store, stages: Stages, rows: Sequence[np.ndarray], texts: Sequence[str]) -> list[Tensor]:
    """Images at rows [n] of the store for each text -> log-odds [n] that it belongs to them, of each text."""
    numbers: dict[int, int] = {}
    images = torch.tensor([numbers.setdefault(row, len(numbers)) for own in rows for row in own.tolist()])
    sizes = [len(own) for own in rows]
    text_of = torch.arange(len(texts)).repeat_interleave(torch.tensor(sizes))
    order = images.argsort(stable=True)  # an image's texts one after the other; of one text as they come
    scores = torch.empty(len(images))
    scores[order] = stages.match(TokensAt(store, np.array(list(numbers))), images[order], texts, text_of[order])
    return list(scores.split(sizes))


def _pool(store: Store, engine: Engine, one: Asked) -> _Pool:
    room = min(store.catalogue.count(), one.wanted * ROOM_FOR_HUBS if one.rescore else one.wanted)
    items = list(store.catalogue.items(np.sort(engine.search(one.vector, room, one.within))))
    rows = np.array([item.row for item in items], np.int64)
    embeddings, hubness = store.read_embeddings(rows)
    queries = torch.from_numpy(one.vector.astype(np.float32))[None]
    by_hubness = by_stored(torch.from_numpy(hubness)) if one.rescore else None
    return _Pool(items, rows, Search(queries, torch.from_numpy(embeddings), rescore=by_hubness))


def _hits(store: Store, pool: _Pool, best, matched: bool) -> list[Hit]:
    probabilities = best.scores[0].sigmoid().tolist() if matched else [None] * len(pool.items)
    # What another process has dropped meanwhile is left out: its row may be another image's by now.
    there = {item.id for item in store.catalogue.items([item.id for item in pool.items])}
    ranked = zip(best.candidates[0].tolist(), best.similarities[0].tolist(), probabilities, strict=False)
    return [
        hit_of(store.description, pool.items[place], similarity, probability)
        for place, similarity, probability in ranked
        if pool.items[place].id in there
    ]


def hit_of(description: Description, item: Item, similarity: float, match: float | None) -> Hit:
    """What is shown of an item."""
    path = path_of(description, item)
    return Hit(item.id, path, similarity, match, item.taken, item.caption, item.width, item.height, item.type)


def path_of(description: Description, item: Item) -> str:
    """Of a folder, with the folder; of shards, of a shard and a key."""
    name = name_of(item.file, item.key)
    return name if description.shards is not None else os.path.join(description.images or "/", name)
