"""/v1/rerank on the models' thread: a query with documents of its own, from 0 to 1.

A text and an image are scored by the probability that they belong together: images of the index from their stored
tokens, others from their pixels. Two texts, two images, or anything where there is no second stage, by the cosine c of
their embeddings, as (1 + c) / 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tcl.errors import InputError
from tcl.index.index import Index
from tcl.serve.contents import Content, Known, Picture, is_text
from tcl.serve.embedding import embed


@dataclass(frozen=True)
class Rerank:
    """All documents are texts, or all are images."""

    query: Content
    documents: Sequence[Content]


def rerank(index: Index, requests: Sequence[Rerank]) -> list[np.ndarray | InputError]:
    """For each request float32 [n], 0 to 1."""
    answers: list = [None] * len(requests)
    matched = [place for place, one in enumerate(requests) if _is_matched(index, one)]
    for places, score in ((matched, _match), (sorted(set(range(len(requests))) - set(matched)), _compare)):
        if places:
            for place, scores in zip(places, score(index, [requests[place] for place in places]), strict=True):
                answers[place] = scores
    return answers


def _is_matched(index: Index, one: Rerank) -> bool:
    return index.matches and is_text(one.query) != is_text(one.documents[0])


def _compare(index: Index, requests: Sequence[Rerank]) -> list[np.ndarray | InputError]:
    embedded = embed(index, [[one.query, *one.documents] for one in requests])
    answers = zip(requests, embedded, strict=True)
    return [own if isinstance(own, InputError) else _closeness(index, one, own) for one, own in answers]


def _closeness(index: Index, one: Rerank, rows: np.ndarray) -> np.ndarray:
    """rows [1 + n, embed_dim], of the query first -> [n]."""
    query = rows[0] if is_text(one.query) or is_text(one.documents[0]) else index.stages.like(rows[:1])[0]
    return (1 + rows[1:] @ query).clip(0, 2) / 2


def _match(index: Index, requests: Sequence[Rerank]) -> list[np.ndarray | InputError]:
    answers: list = []
    for one in requests:
        try:
            for content in (one.query, *one.documents):
                if is_text(content):
                    index.stages.check_text(content.text)
            answers.append(np.empty(len(one.documents), np.float32))
        except InputError as error:
            answers.append(error)
    good = [place for place, answer in enumerate(answers) if not isinstance(answer, InputError)]
    stored = [place for place in good if _ids(requests[place])]
    for place, scores in _match_stored(index, stored, requests):
        if isinstance(scores, InputError):
            answers[place] = scores
        else:
            answers[place][_places(requests[place], Known)] = scores
    for place in good:
        if not isinstance(answers[place], InputError):
            _match_pictures(index, requests[place], answers[place])
    return answers


def _match_stored(index: Index, places: Sequence[int], requests: Sequence[Rerank]):
    """(place, its scores) of those with images of the index."""
    there = []
    for place in places:
        try:
            index.embeddings(_ids(requests[place]))
            there.append(place)
        except InputError as error:
            yield place, error
    if not there:
        return
    # One list of ids for each text: a query's documents, or an image for each of its texts.
    ids, texts, sizes = [], [], []
    for place in there:
        one = requests[place]
        if is_text(one.query):
            pairs = [(_ids(one), one.query.text)]
        else:
            pairs = [([one.query.id], document.text) for document in one.documents]
        ids += [own for own, _ in pairs]
        texts += [text for _, text in pairs]
        sizes.append(len(pairs))
    scores = iter(index.match(ids, texts))
    for place, size in zip(there, sizes, strict=True):
        yield place, np.concatenate([next(scores) for _ in range(size)])


def _match_pictures(index: Index, one: Rerank, scores: np.ndarray) -> None:
    """Into `scores`, where images came along."""
    if isinstance(one.query, Picture):
        texts = [document.text for document in one.documents]
        (odds,) = index.stages.match_pixels([one.query.seen.inputs[-1]], texts, [torch.arange(len(texts))])
        scores[:] = odds.sigmoid().numpy()
        return
    pictures = _places(one, Picture)
    if pictures and is_text(one.query):
        pixels = [one.documents[i].seen.inputs[-1] for i in pictures]
        odds = index.stages.match_pixels(pixels, [one.query.text], [torch.zeros(1, dtype=torch.int64)] * len(pixels))
        scores[pictures] = torch.cat(odds).sigmoid().numpy()


def _ids(one: Rerank) -> list[int]:
    """Images of the index, in the order of the request."""
    return [content.id for content in (one.query, *one.documents) if isinstance(content, Known)]


def _places(one: Rerank, kind: type) -> list[int]:
    """Which documents are of that kind; of a query that is an image of the index, all."""
    if isinstance(one.query, kind):
        return list(range(len(one.documents)))
    return [i for i, document in enumerate(one.documents) if isinstance(document, kind)]
