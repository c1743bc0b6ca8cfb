"""No request has more bytes, or takes longer, than the limits say."""

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tcl.serve.answers import error_answer
from tcl.serve.limits import Limits


class Bounded:
    """Answers 413 and 504."""

    def __init__(self, app: ASGIApp, limits: Limits):
        self.app, self.limits = app, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        most, taken, started = self.limits.body, 0, False

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:  # which whoever reads the body leaves to the application's handler
                raise HTTPException(413, _too_large(most), {"Connection": "close"})
            return message

        async def noted(message: Message) -> None:
            nonlocal started
            await send(message)
            started = True

        answer = None
        if _said_length(scope) > most:
            answer = error_answer(413, _too_large(most), {"Connection": "close"})
        else:
            try:
                await asyncio.wait_for(self.app(scope, counted, noted), self.limits.seconds)
            except asyncio.TimeoutError:
                answer = error_answer(504, f"time: not answered in {self.limits.seconds:g} s; ask for less, or later")
        if answer is not None and not started:
            await answer(scope, receive, send)


def _too_large(most: int) -> str:
    return f"body: more than {most:,} bytes; send less"


def _said_length(scope: Scope) -> int:
    """What a client says that it will send; 0: nothing."""
    said = dict(scope["headers"]).get(b"content-length", b"0")
    return int(said) if said.isdigit() else 0
