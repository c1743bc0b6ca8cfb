"""The application: routes, what every request passes on its way to them, and how errors are told."""

import contextlib
import sys
import traceback

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tcl import __version__
from tcl.errors import InputError
from tcl.serve.answers import JSON, error_answer
from tcl.serve.batching import FullError
from tcl.serve.bounds import Bounded
from tcl.serve.counters import Counted
from tcl.serve.guard import COOKIE, Guarded, cookie_of, same
from tcl.serve.index_routes import index_routes
from tcl.serve.model_routes import model_routes
from tcl.serve.pages import read_pages
from tcl.serve.read_on import ReadOn
from tcl.serve.requests import LoginRequest
from tcl.serve.service import Service
from tcl.shown import shown


def make_app(service: Service) -> ASGIApp:
    """Of one index."""
    app = FastAPI(title="tcl serve", version=__version__, docs_url=None, redoc_url=None)
    app.include_router(model_routes(service))
    app.include_router(index_routes(service))
    _add_pages(app, service.token)
    _add_state(app, service)
    for kind, tell in (
        (RequestValidationError, _tell_invalid),
        (HTTPException, _tell_http),
        (InputError, _tell_input),
        (FullError, _tell_full),
        (Exception, _tell_broken),
    ):
        app.add_exception_handler(kind, tell)
    answering = Guarded(Bounded(_told_once(app), service.limits), service.token)
    # Before the limit of time, which would put "too slow" in place of what is to be said.
    read_on = ReadOn(answering, most=2 * service.limits.body, seconds=service.limits.seconds / 2)
    return Counted(read_on, service.counters)


def _told_once(app: ASGIApp) -> ASGIApp:
    """What `_tell_broken` has told is raised again by Starlette, for servers that know no better."""

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(Exception):
            await app(scope, receive, send)

    return told


def _add_pages(app: FastAPI, token: str | None) -> None:
    pages = read_pages()

    @app.get("/", include_in_schema=False)
    async def show_page() -> Response:
        return pages["index.html"]

    @app.get("/docs", include_in_schema=False)
    async def show_docs() -> Response:
        return pages["docs.html"]

    @app.get("/page/{name}", include_in_schema=False)
    async def send_page(name: str) -> Response:
        if name not in pages:
            raise HTTPException(404, "there is no such page")
        return pages[name]

    @app.post("/login", include_in_schema=False)
    async def log_in(asked: LoginRequest, request: Request) -> Response:
        if token is not None and not same(asked.token, token):
            return error_answer(401, "token: another one; it is what `tcl serve` was started with")
        answer = Response(status_code=204)
        if token is not None:
            secure = request.url.scheme == "https"
            answer.set_cookie(COOKIE, cookie_of(token), httponly=True, samesite="strict", secure=secure)
        return answer


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/healthz")
    async def tell_health() -> JSON:
        """200 once the index can be searched, else 503."""
        state = await service.shelf.state()
        if state["searchable"]:
            return JSON({"status": "ok"})
        return JSON({"status": "being made" if state["being_made"] else "empty"}, 503)

    @app.get("/metrics", response_class=Response)
    async def tell_metrics() -> Response:
        """In Prometheus' text format."""
        state = await service.shelf.state()
        service.counters.images.set(state["searchable"])
        return Response(service.counters.page(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _tell_invalid(request: Request, error: RequestValidationError) -> JSON:
    """The first that is wrong; what was sent is not sent back."""
    first = error.errors()[0]
    where, *parts = first["loc"]  # the body, the query or the path; names of fields, and places in lists
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".") or where
    said = " ".join(first["msg"].removeprefix("Value error, ").split())
    return error_answer(400, f"{field[:200]}: {said}"[:1000])


async def _tell_http(request: Request, error: HTTPException) -> JSON:
    return error_answer(error.status_code, str(error.detail), dict(error.headers or {}))


async def _tell_input(request: Request, error: InputError) -> JSON:
    said = str(error)
    if said.startswith(("index:", "uri:")):  # no field of a request: the service's own trouble
        print(f"error: {shown(said)}", file=sys.stderr, flush=True)
        return error_answer(503, said[:1000], {"Retry-After": "5"})
    return error_answer(400, said[:1000])


async def _tell_full(request: Request, error: FullError) -> JSON:
    return error_answer(429, "busy: as many requests wait as may; come again", {"Retry-After": "1"})


async def _tell_broken(request: Request, error: Exception) -> JSON:
    traceback.print_exception(error)
    return error_answer(500, "the service failed on this; its log says how")
