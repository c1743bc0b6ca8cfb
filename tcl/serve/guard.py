"""Who may ask, and what a browser may do with the answers.

With a token, whatever is not the page itself wants it: as `Authorization: Bearer`, or as the cookie that the page got
for it. Without one the service is this machine's alone, and a page of another site that has its own name lead here (DNS
rebinding) is refused by the name.
"""

import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tcl.errors import InputError
from tcl.serve.answers import error_answer

ALONE = "127.0.0.1"
OWN_NAMES = (ALONE, "localhost", "[::1]")
COOKIE = "tcl_page"
SHORTEST_TOKEN = 16
OPEN = ("/", "/page/", "/login", "/healthz", "/docs", "/openapi.json")
"""Paths, and those below, that anybody may see: nothing of the index is there."""

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def check_token(host: str, token: str | None) -> None:
    """InputError: a host that others reach without a token, a token that is guessed too easily."""
    if host != ALONE and token is None:
        raise InputError(f"token: others reach {host}; give --token, or TCL_TOKEN in the environment")
    if token is not None:
        usable = token.isascii() and token.isprintable() and " " not in token
        if not usable or len(token) < SHORTEST_TOKEN:
            raise InputError(f"token: {len(token)} characters; give {SHORTEST_TOKEN} letters and digits or more")


class Guarded:
    """Answers 401 and 403, and adds HEADERS to every answer."""

    def __init__(self, app: ASGIApp, token: str | None):
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        if self.token is None:
            if _name(headers.get("host", "")) not in OWN_NAMES:
                answer = error_answer(403, f"host: this service is for {' and '.join(OWN_NAMES[:2])} only")
                await answer(scope, receive, with_headers)
                return
        elif not (_is_open(scope["path"]) or is_known(headers, self.token)):
            answer = error_answer(
                401, "token: none, or a wrong one; send it as Authorization: Bearer", {"WWW-Authenticate": "Bearer"}
            )
            await answer(scope, receive, with_headers)
            return
        await self.app(scope, receive, with_headers)


def is_known(headers: Headers, token: str) -> bool:
    """In the same time, however much of it is right."""
    kind, _, given = headers.get("authorization", "").partition(" ")
    by_header = same(given.strip(), token) and kind.lower() == "bearer"
    return same(_cookie(headers), cookie_of(token)) or by_header


def same(given: str, secret: str) -> bool:
    """Compared by their hashes, so that not even the length shows."""
    return hmac.compare_digest(*(hashlib.sha256(one.encode("utf-8", "replace")).digest() for one in (given, secret)))


def cookie_of(token: str) -> str:
    """What a browser keeps: it lets in, and the token cannot be read from it."""
    return hmac.new(token.encode(), b"tcl serve, page", "sha256").hexdigest()


def _cookie(headers: Headers) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _is_open(path: str) -> bool:
    return any(path == one or (one.endswith("/") and one != "/" and path.startswith(one)) for one in OPEN)


def _name(host: str) -> str:
    """Without the port."""
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0].lower()
