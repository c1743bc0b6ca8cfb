"""Whoever is refused while still sending gets the answer, not a broken pipe; nobody is listened to for ever."""

import asyncio
import http.client

import pytest
from serving import served, served_photographs
from starlette.exceptions import HTTPException

from tcl.serve.answers import error_answer
from tcl.serve.bounds import Bounded
from tcl.serve.limits import Limits
from tcl.serve.read_on import ReadOn

LARGE = b"x" * 15_000_000
"""More than any socket's buffers hold."""
MOST = 2**26
TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("read_on")
    with served(served_photographs(folder, 3), "--max_body=8MB", f"--token={TOKEN}") as running:
        yield running


@pytest.mark.parametrize(
    ("path", "token", "chunked", "status"),
    [
        ("/v1/search", TOKEN, False, 413),
        ("/v1/search", TOKEN, True, 413),
        ("/v1/search", "another-token-than-that", False, 401),
        ("/v1/search", "another-token-than-that", True, 401),
        ("/v1/nothing", TOKEN, True, 404),
        ("/login", TOKEN, True, 413),
    ],
)
def test_the_reason_reaches_who_sends_too_much(service, path, token, chunked, status):
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    connection.request("POST", path, iter([LARGE]) if chunked else LARGE, headers, encode_chunked=chunked)
    answer = connection.getresponse()
    assert answer.status == status and b'"error"' in answer.read()


def test_who_waits_to_be_told_is_not_told_to_send(service):
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    connection.putrequest("POST", "/v1/search")
    for name, value in (
        ("Content-Length", str(len(LARGE))),
        ("Expect", "100-continue"),
        ("Authorization", f"Bearer {TOKEN}"),
    ):
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.sock.recv(2**16)
    assert answer.startswith(b"HTTP/1.1 413 ")  # and not 100


def answered(receive, headers=((b"transfer-encoding", b"chunked"),), seconds=60.0) -> list[dict]:
    """What an application that reads nothing sends through ReadOn."""
    sent = []

    async def refuse(scope, receive, send) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b"no"})

    async def keep(message: dict) -> None:
        sent.append(message)

    asyncio.run(ReadOn(refuse, MOST, seconds)({"type": "http", "headers": list(headers)}, receive, keep))
    return sent


def test_an_endless_body_is_read_so_far_and_no_further():
    read = 0

    async def endless() -> dict:
        nonlocal read
        read += 2**20
        return {"type": "http.request", "body": bytes(2**20), "more_body": True}

    assert [message["type"] for message in answered(endless)] == ["http.response.start", "http.response.body"]
    assert read == MOST
    assert (b"connection", b"close") in answered(endless)[0]["headers"]


def test_a_client_that_stops_in_the_middle_is_answered():
    async def silent() -> dict:
        await asyncio.Event().wait()
        raise AssertionError

    assert answered(silent, seconds=0.01)[0]["status"] == 401


def test_without_a_body_nothing_is_waited_for():
    async def never() -> dict:
        raise AssertionError("was asked")

    for headers in ((), [(b"content-length", b"0")], [(b"content-length", b"9"), (b"expect", b"100-continue")]):
        assert answered(never, headers)[0]["status"] == 401


def test_a_client_that_has_gone_is_not_read_again():
    async def gone() -> dict:
        nonlocal asked
        asked += 1
        return {"type": "http.disconnect"}

    asked = 0
    assert answered(gone)[0]["status"] == 401 and asked == 1


def test_reading_on_does_not_spend_the_time_of_an_answer_nor_take_its_place():
    """A body that comes slowly, and is too large soon: its limit of time would be over while the rest is read."""
    pieces = 0

    async def slow() -> dict:
        nonlocal pieces
        pieces += 1
        if pieces > 1:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": bytes(11), "more_body": True}

    async def reads(scope, receive, send) -> None:
        try:
            await receive()
        except HTTPException as refused:
            await error_answer(refused.status_code, refused.detail)(scope, receive, send)

    async def keep(message: dict) -> None:
        sent.append(message)

    sent = []
    app = ReadOn(Bounded(reads, Limits(body=10, seconds=5.0)), most=100, seconds=0.01)
    asyncio.run(app({"type": "http", "headers": [(b"transfer-encoding", b"chunked")]}, slow, keep))
    assert sent[0]["status"] == 413
