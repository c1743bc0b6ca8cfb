"""The routes about the index itself: its state, images, folders."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from tcl.data.texts.captions import spelt_out
from tcl.index.query import within_of
from tcl.serve.answers import JSON, shown_hit
from tcl.serve.pieces import send
from tcl.serve.requests import LARGEST_ID, Date, String
from tcl.serve.service import Service

LONGEST_PAGE = 200
ImageId = Annotated[int, Path(ge=0, le=LARGEST_ID)]
KEPT = {"Cache-Control": "private, max-age=86400"}
"""An id is never given to another image."""


def index_routes(service: Service) -> APIRouter:
    """Of one index."""
    router, shelf = APIRouter(prefix="/v1"), service.shelf
    description, limits = service.description, service.limits

    @router.get("/index")
    async def describe_index() -> JSON:
        """What is in the index, how far it is made, and what can be asked of it."""
        name = spelt_out(service.folder.resolve().name)
        known = {
            "name": name.removesuffix(".index"),
            "key": description.collection,
            "what": service.what,
            "plays": service.plays,
            "root": None if description.images is None else spelt_out(description.images),
            "matches": description.tokens != "none",
            "explains": service.explains,
            "rescores": description.bank,
            "most": limits.candidates,
        }
        return JSON(known | await shelf.state())

    @router.get("/folders")
    async def list_folders(below: String = "") -> JSON:
        """Those that lie directly in one."""
        return JSON({"folders": await shelf.folders(below)})

    @router.get("/images")
    async def list_images(
        after: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0,
        count: Annotated[int, Query(ge=1, le=LONGEST_PAGE)] = 60,
        folder: String | None = None,
        since: Date | None = None,
        until: Date | None = None,
    ) -> JSON:
        """Images without a query, by id, from the first after one on."""
        hits = await shelf.page(within_of(folder, since, until), after, count)
        return JSON({"results": [shown_hit(hit) for hit in hits]})

    @router.get("/images/{id}", response_class=Response, responses=_OF_IMAGES)
    async def send_photograph(id: ImageId) -> Response:
        """An image of the index as a JPEG of at most 2,048 pixels a side."""
        return _picture(await shelf.photograph(id), id)

    @router.get("/images/{id}/media", response_class=Response, responses=_OF_MEDIA)
    async def send_media(id: ImageId, request: Request) -> Response:
        """The file of a clip or a sound as it is: whole, or what a Range header asks for, at most 4 MiB of it."""
        found = await shelf.opened(id)
        if found is None:
            raise HTTPException(404, f"id: {id} is no clip or sound of the index")
        file, media_type = found
        return send(file, media_type, request.headers.get("range"), KEPT, shelf.readers)

    @router.get("/images/{id}/small", response_class=Response, responses=_OF_IMAGES)
    async def send_small(id: ImageId) -> Response:
        """The same of at most 256 pixels."""
        return _picture(await shelf.small(id), id)

    return router


_OF_MEDIA: dict = {200: {"content": {"video/*": {}, "audio/*": {}}}, 206: {}, 404: {}, 416: {}}
_OF_IMAGES: dict = {200: {"content": {"image/jpeg": {}}}, 404: {}}


def _picture(content: bytes | None, id: int) -> Response:
    if content is None:
        raise HTTPException(404, f"id: {id} is no image of the index")
    return Response(content, media_type="image/jpeg", headers=KEPT)
