"""The parts of `tcl serve` that a process would only show by chance: batches, limits, faults, who may ask."""

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_files import encode, noise
from indexing import build, photographs, tiny_stages

from tcl.errors import InputError
from tcl.index.index import Index
from tcl.serve.app import make_app
from tcl.serve.batching import Batcher, FullError
from tcl.serve.guard import check_token, cookie_of, same
from tcl.serve.limits import Limits
from tcl.serve.model_routes import whole_words
from tcl.serve.service import Service, opened

JPEG = encode(noise(3, (60, 40)))


# batches


class Gate:
    """Work that waits until it may go on."""

    def __init__(self):
        self.began, self.may_go = threading.Event(), threading.Event()
        self.batches: list[list[int]] = []

    def double(self, owned: str, items: list[int]) -> list[int]:
        self.batches.append(list(items))
        self.began.set()
        self.may_go.wait()
        return [ValueError("odd") if item % 2 else 2 * item for item in items]


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.may_go.set()


def test_what_comes_meanwhile_goes_together(gate):
    closed = []
    batcher = Batcher(lambda: "owned", closed.append, waiting=5, together=3)

    async def run() -> None:
        first = asyncio.ensure_future(batcher.ask(gate.double, 0))
        await asyncio.to_thread(gate.began.wait)
        others = [asyncio.ensure_future(batcher.ask(gate.double, i)) for i in (2, 4, 5, 6, 8)]
        await asyncio.sleep(0)
        assert batcher.waiting == 5
        with pytest.raises(FullError):
            await batcher.ask(gate.double, 10)
        others[1].cancel()  # gives up its place
        await asyncio.wait([others[1]])
        gate.may_go.set()
        assert await first == 0
        answers = await asyncio.gather(*others, return_exceptions=True)
        assert [answers[0], answers[3], answers[4]] == [4, 12, 16]
        assert isinstance(answers[1], asyncio.CancelledError) and str(answers[2]) == "odd"

    asyncio.run(run())
    batcher.close()
    assert gate.batches == [[0], [2, 5], [6, 8]] and closed == ["owned"]


def test_what_was_asked_before_the_end_is_answered(gate):
    batcher = Batcher(lambda: "owned", lambda owned: None, waiting=5)

    async def run() -> list[int]:
        asked = [asyncio.ensure_future(batcher.ask(gate.double, i)) for i in (0, 2, 4)]
        await asyncio.to_thread(gate.began.wait)
        ended = asyncio.ensure_future(asyncio.to_thread(batcher.close))
        gate.may_go.set()
        answers = await asyncio.gather(*asked)
        await ended
        return answers

    assert asyncio.run(run()) == [0, 4, 8]


def test_what_fails_fails_for_those_who_asked_for_it_alone(gate):
    def broken(owned: str, items: list[int]) -> list[int]:
        raise RuntimeError("broken")

    def refuses() -> str:
        raise InputError("index: none")

    with pytest.raises(InputError, match="index: none"):
        Batcher(refuses, lambda owned: None, waiting=1)
    batcher = Batcher(lambda: "owned", lambda owned: None, waiting=5)
    gate.may_go.set()

    async def run() -> None:
        with pytest.raises(RuntimeError, match="broken"):
            await batcher.ask(broken, 1)
        assert await batcher.ask(gate.double, 4) == 8

    asyncio.run(run())
    batcher.close()


# the application


@contextlib.contextmanager
def application(folder: Path, token: str | None = None, **limits: Any) -> Iterator[tuple[Service, Callable]]:
    """The service of an index of ten images, and a client: (path, body, headers) -> status, headers, JSON or bytes."""
    if not (folder / "index").exists():
        photographs(folder / "photos", range(10))
        build(folder / "index", folder / "photos", tiny_stages())
    opening = partial(Index, folder / "index", tiny_stages())
    with opened(folder / "index", opening, limits=Limits(**limits), token=token, follow_urls=False) as service:
        yield service, partial(ask, make_app(service))


async def ask(app: Callable, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], Any]:
    """Over ASGI, as uvicorn would."""
    content = b"" if body is None else json.dumps(body).encode()
    given = {"host": "127.0.0.1", "content-type": "application/json"} | headers
    scope = {
        "type": "http",
        "method": "GET" if body is None else "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
        "scheme": "http",
        "http_version": "1.1",
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8765),
    }
    incoming, sent = [{"type": "http.request", "body": content}], []

    async def receive() -> dict:
        if incoming:
            return incoming.pop()
        await asyncio.Event().wait()  # the client stays
        raise AssertionError

    async def send(message: dict) -> None:
        sent.append(message)

    await app(scope, receive, send)
    said = b"".join(message.get("body", b"") for message in sent)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found, json.loads(said) if "json" in found.get("content-type", "") else said


def test_a_full_queue_is_told_at_once(tmp_path, gate):
    async def run() -> None:
        with application(tmp_path, waiting=1) as (service, asks):
            held = [asyncio.ensure_future(service.batcher.ask(gate.double, 2))]
            await asyncio.to_thread(gate.began.wait)
            held.append(asyncio.ensure_future(service.batcher.ask(gate.double, 4)))
            await asyncio.sleep(0)
            status, headers, said = await asks("/v1/search", {"query": "a dog"})
            assert (status, headers["retry-after"], said["error"]["type"]) == (429, "1", "busy")
            gate.may_go.set()
            assert await asyncio.gather(*held) == [4, 8]
            assert (await asks("/v1/search", {"query": "a dog"}))[0] == 200

    asyncio.run(run())


def test_what_takes_too_long_is_given_up(tmp_path, gate):
    async def run() -> None:
        with application(tmp_path, seconds=0.05) as (service, asks):
            held = asyncio.ensure_future(service.batcher.ask(gate.double, 2))
            await asyncio.to_thread(gate.began.wait)
            status, _, said = await asks("/v1/search", {"query": "a dog"})
            assert (status, said["error"]["type"]) == (504, "too_slow")
            gate.may_go.set()
            await held

    asyncio.run(run())


def test_a_fault_of_the_service_is_no_secret_of_it(tmp_path, monkeypatch, capsys):
    def fails(*given: object) -> None:
        raise RuntimeError("at /secret/place")

    async def run() -> None:
        with application(tmp_path) as (_, asks):
            monkeypatch.setattr(Index, "search_many", fails)
            status, headers, said = await asks("/v1/search", {"query": "a dog"})
            assert status == 500 and "secret" not in json.dumps(said)
            assert headers["content-security-policy"]

    asyncio.run(run())
    assert "at /secret/place" in capsys.readouterr().err


def test_a_damaged_index_is_the_services_trouble(tmp_path, capsys):
    async def run() -> None:
        with application(tmp_path) as (_, asks):
            (tmp_path / "index" / "faiss.index").write_bytes(b"no index")
            status, _, said = await asks("/v1/search", {"query": "a dog"})
            assert status == 503 and "is missing or damaged" in said["error"]["message"]

    asyncio.run(run())
    assert "is missing or damaged" in capsys.readouterr().err


def test_names_that_are_no_text_are_answered(tmp_path):
    async def run() -> None:
        (tmp_path / "photos").mkdir()
        with open(os.path.join(os.fsencode(tmp_path / "photos"), b"\xff\xfe.jpg"), "wb") as file:
            file.write(JPEG)
        with application(tmp_path) as (_, asks):
            status, _, said = await asks("/v1/search", {"query": "a dog", "k": 20})
            assert status == 200 and any(one["path"].endswith("\\udcff\\udcfe.jpg") for one in said["results"])

    asyncio.run(run())


def test_pieces_of_words_are_put_together():
    class Heat:
        words = ("a", "run", "##ning", "##s", "dog")
        of_words = np.arange(5.0)[:, None, None] * np.ones((5, 2, 3))

    words, maps = whole_words(Heat())
    assert words == ["a", "runnings", "dog"] and maps[:, 0, 0].tolist() == [0, 6, 4]


# who may ask


def test_a_token_is_compared_by_hashes_of_one_length(monkeypatch):
    import hmac

    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or compare(a, b))
    for given, right in (("x" * 16, True), ("x" * 15, False), ("", False), ("é" * 1000, False), ("\ud800", False)):
        assert same(given, "x" * 16) is right
    assert {len(one) for pair in compared for one in pair} == {32} and len(compared) == 5
    assert cookie_of("x" * 16) != cookie_of("y" * 16) and "x" * 16 not in cookie_of("x" * 16)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "localhost", "::1", ""])
def test_any_host_but_this_machine_alone_wants_a_token(host):
    with pytest.raises(InputError, match=r"^token: others reach"):
        check_token(host, None)
    for token in ("short", "with spaces in it, long", "é" * 20, "\n" * 20):
        with pytest.raises(InputError, match=r"^token: "):
            check_token(host, token)
    check_token(host, "0123456789abcdef")
    check_token("127.0.0.1", None)
