"""The routes that ask the models: search, rerank, embeddings, explain."""

import asyncio
import base64
from collections.abc import Awaitable
from typing import TypeVar

import numpy as np
from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException

from tcl.errors import InputError
from tcl.index.query import Query
from tcl.inference.heat_map import HeatMap
from tcl.serve.answers import JSON, EmbeddingsAnswer, ErrorAnswer, RerankAnswer, SearchAnswer, shown_hit
from tcl.serve.contents import is_text
from tcl.serve.embedding import embed
from tcl.serve.requests import Document, EmbeddingsRequest, ExplainRequest, RerankRequest, SearchRequest
from tcl.serve.reranking import Rerank, rerank
from tcl.serve.searching import Explain, explain, search
from tcl.serve.service import Service

Answer = TypeVar("Answer")
ERRORS = {status: {"model": ErrorAnswer} for status in (400, 401, 413, 429, 503, 504)}
GONE = 499
"""The client hung up: nobody sees it but the counters."""


def model_routes(service: Service) -> APIRouter:
    """Of one index."""
    router = APIRouter(prefix="/v1", responses=ERRORS)

    @router.post("/search", response_model=SearchAnswer)
    async def search_index(asked: SearchRequest, request: Request) -> JSON:
        """Images of the index by a text, an image or both, best first; as `tcl search`."""
        return await _while_connected(request, _search(service, asked))

    @router.post("/rerank", response_model=RerankAnswer)
    async def rerank_documents(asked: RerankRequest, request: Request) -> JSON:
        """How relevant each document is to a query, in the form of Cohere, Jina and vLLM.

        Documents are texts, or images: of the index by id, base64, or behind URLs where the service follows these."""
        return await _while_connected(request, _rerank(service, asked))

    @router.post("/embeddings", response_model=EmbeddingsAnswer)
    async def embed_inputs(asked: EmbeddingsRequest, request: Request) -> JSON:
        """Unit vectors of texts and images, in the form of OpenAI."""
        return await _while_connected(request, _embed(service, asked))

    @router.post("/explain")
    async def explain_image(asked: ExplainRequest, request: Request) -> JSON:
        """Where in an image of the index a text is: a map of patches for each word, from 0 to 255, and for all."""
        return await _while_connected(request, _explain(service, asked))

    return router


async def _search(service: Service, asked: SearchRequest) -> JSON:
    for count, name in ((asked.k + asked.offset, "k"), (asked.rerank, "rerank")):
        service.check_count(count, name)
    seen = None
    if asked.image is not None:
        seen = (await service.documents.picture(asked.image, "image")).seen
    query = Query(
        text=asked.query,
        seen=seen,
        like=asked.id,
        k=asked.k + asked.offset,
        rerank=asked.rerank,
        rescore=asked.rescore,
        folder=asked.folder,
        since=asked.since,
        until=asked.until,
    )
    hits = await service.batcher.ask(search, query)
    return JSON({"results": [shown_hit(hit) for hit in hits[asked.offset :]]})


async def _rerank(service: Service, asked: RerankRequest) -> JSON:
    documents = await service.read_all(asked.documents, "documents")
    query = await service.documents.read(asked.query, "query")
    if len({is_text(document) for document in documents}) > 1:
        raise InputError("documents: texts and images in one list, whose scores do not compare; send a list of each")
    scores = await service.batcher.ask(rerank, Rerank(query, documents))
    best = np.argsort(-scores, kind="stable")[: asked.top_n]
    results = [
        {"index": int(place), "relevance_score": float(scores[place])}
        | ({"document": _shown(asked.documents[place])} if asked.return_documents else {})
        for place in best
    ]
    return JSON({"model": service.description.model, "results": results})


def _shown(document: Document) -> dict[str, object]:
    """An image that came along is not sent back."""
    return {name: value for name, value in (("text", document.text), ("id", document.id)) if value is not None}


async def _embed(service: Service, asked: EmbeddingsRequest) -> JSON:
    contents = await service.read_all(asked.input, "input")
    vectors = await service.batcher.ask(embed, contents)
    as_base64 = asked.encoding_format == "base64"
    data = [
        {
            "object": "embedding",
            "index": place,
            "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode() if as_base64 else vector.tolist(),
        }
        for place, vector in enumerate(vectors)
    ]
    return JSON({"object": "list", "model": service.description.model, "data": data})


async def _explain(service: Service, asked: ExplainRequest) -> JSON:
    if not service.explains:
        raise InputError("explain: the second stage of this index cannot say; it takes a TCL, and stored tokens")
    image = await service.shelf.original(asked.id)
    if image is None:
        raise HTTPException(404, f"id: {asked.id} is no image of the index")
    heat = await service.batcher.ask(explain, Explain(image, asked.query))
    rows, columns = heat.values.shape
    words, maps = whole_words(heat)
    said = {
        "rows": rows,
        "columns": columns,
        "words": words,
        "of_words": _to_255(maps),
        "of_text": _to_255(heat.values),
    }
    return JSON(said)


def whole_words(heat: HeatMap) -> tuple[list[str], np.ndarray]:
    """W words, pieces of which (##ing) are put together, and their maps [W, rows, columns], the sums of the pieces'."""
    words: list[str] = []
    maps: list[np.ndarray] = []
    for word, own in zip(heat.words, heat.of_words, strict=True):
        if word.startswith("##") and words:
            words[-1] += word.removeprefix("##")
            maps[-1] = maps[-1] + own
        else:
            words.append(word)
            maps.append(own)
    return words, np.array(maps)


def _to_255(maps: np.ndarray) -> list:
    """[..., rows, columns] >= 0 -> [..., patches], the highest of all as 255."""
    highest = max(float(maps.max()), np.finfo(np.float32).tiny)
    return np.rint(maps / highest * 255).astype(int).reshape(*maps.shape[:-2], -1).tolist()


async def _while_connected(request: Request, work: Awaitable[Answer]) -> Answer:
    """A client that hangs up, as a page does while somebody types, gives up its place."""
    working = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HTTPException(GONE, "the client hung up")
        return working.result()
    finally:
        gone.cancel()
        working.cancel()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
