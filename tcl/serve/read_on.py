"""An answer begins when what a client sends has been read, whether anybody wanted it or not.

A connection that ends with bytes unread is reset, and who still sends then (most clients read nothing before they have
sent everything) sees a broken pipe in place of the answer that says why.
"""

import asyncio
import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST = 2**26
"""Bytes that are read and thrown away."""


class ReadOn:
    """Of whatever answers before a body's end: a body that is too large, a wrong token, a path that is none."""

    def __init__(self, app: ASGIApp, seconds: float):
        self.app, self.seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        left = _is_sending(scope)

        async def noted() -> Message:
            nonlocal left
            message = await receive()
            left = message.get("more_body", False)  # nor does a client send that has gone
            return message

        async def after_the_body(message: Message) -> None:
            if left and message["type"] == "http.response.start":
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(discard(), self.seconds)
            await send(message)

        async def discard() -> None:
            read = 0
            while left and read < MOST:
                read += len((await noted()).get("body", b""))

        await self.app(scope, noted, after_the_body)


def _is_sending(scope: Scope) -> bool:
    """Not a client without a body, nor one that waits to be told `100 Continue`, which the first read tells it."""
    headers = dict(scope["headers"])
    has_body = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
    return has_body and headers.get(b"expect", b"").lower() != b"100-continue"
