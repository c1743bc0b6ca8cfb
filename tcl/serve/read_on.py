"""An answer begins when what a client sends has been read, whether anybody wanted it or not.

A connection that ends with bytes unread is reset, and who still sends then (most clients read nothing before they have
sent everything) sees a broken pipe in place of the answer that says why.
"""

import asyncio
import contextlib

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ReadOn:
    """Of whatever answers before a body's end: a body that is too large, a wrong token, a path that is none.

    most: bytes that are read and thrown away. seconds: from the beginning of a request; later nothing is read on.
    """

    def __init__(self, app: ASGIApp, most: int, seconds: float):
        self.app, self.most, self.seconds = app, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        left, deadline = _is_sending(scope), asyncio.get_running_loop().time() + self.seconds

        async def noted() -> Message:
            nonlocal left
            message = await receive()
            left = message.get("more_body", False)  # nor does a client send that has gone
            return message

        async def after_the_body(message: Message) -> None:
            if left and message["type"] == "http.response.start":
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(discard(), deadline - asyncio.get_running_loop().time())
                if left:
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        async def discard() -> None:
            read = 0
            while left and read < self.most:
                read += len((await noted()).get("body", b""))

        await self.app(scope, noted, after_the_body)


def _is_sending(scope: Scope) -> bool:
    """Not a client without a body, nor one that waits to be told `100 Continue`, which the first read tells it."""
    headers = dict(scope["headers"])
    has_body = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
    return has_body and headers.get(b"expect", b"").lower() != b"100-continue"
