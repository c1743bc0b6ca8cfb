"""The parts of `tcl serve` that a process would only show by chance: batches, limits, addresses, who may ask."""

import asyncio
import contextlib
import http.server
import ipaddress
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
from tcl.serve import fetch as fetching
from tcl.serve.app import make_app
from tcl.serve.batching import Batcher, FullError
from tcl.serve.fetch import fetch, is_public
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


# documents behind URLs


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.0.1", "169.254.169.254"),
        *("0.0.0.0", "100.64.0.1", "192.0.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::1"),
        *("2002:7f00:1::", "2002:a00:1::1", "2001:0:7f00:1::"),
    ],
)
def test_addresses_that_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"])
def test_addresses_that_are(address):
    assert is_public(address) and ipaddress.ip_address(address)


class Elsewhere(http.server.BaseHTTPRequestHandler):
    """A server somewhere, which notes what it is asked."""

    asked: list[str] = []  # noqa: RUF012
    hosts: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.hosts.append(self.headers["Host"])
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.end_headers()
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(b"x" * 10_000)
        elif self.path == "/drip":
            self.send_response(200)
            self.end_headers()
            self.server.dripped.wait()  # a byte, and never the next
        elif self.path == "/missing":
            self.send_error(404)
        else:
            self.send_response(200)
            claimed = 10**9 if self.path == "/claims" else len(JPEG)
            self.send_header("Content-Length", str(claimed))
            self.end_headers()
            self.wfile.write(JPEG)

    def log_message(self, *given: object) -> None:
        """Not."""


@pytest.fixture
def elsewhere():
    """(port, what was asked)"""
    Elsewhere.asked, Elsewhere.hosts = [], []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    server.daemon_threads, server.dripped = True, threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1], Elsewhere.asked
    server.dripped.set()
    server.shutdown()
    thread.join()
    server.server_close()


def read(port: int, path: str, seconds: float = 60, allowed: Callable[[str], bool] = lambda address: True) -> bytes:
    """As if the server of this test were a public one."""
    url = f"http://images.localhost:{port}{path}"
    return fetch(url, "documents[0]", most=100_000, seconds=seconds, allowed=allowed, ports={"http": port})


@pytest.fixture
def found_at(monkeypatch):
    """Every name leads to these addresses."""

    def lead(*addresses: str) -> None:

        def look_up(host: str, port: int, *given: object, **options: object) -> list:
            return [(2, 1, 6, "", (address, port)) for address in addresses]

        monkeypatch.setattr(fetching.socket, "getaddrinfo", look_up)

    return lead


def test_an_image_behind_a_url(elsewhere, found_at):
    port, asked = elsewhere
    found_at("127.0.0.1")
    assert read(port, "/dog.jpg?size=large") == JPEG
    assert asked == ["/dog.jpg?size=large"] and Elsewhere.hosts == [f"images.localhost:{port}"]


@pytest.mark.parametrize(
    "path, reason",
    [
        ("/to/http://127.0.0.1/", "answers with a redirect; give the URL of an image itself"),
        ("/to/file:///etc/passwd", "answers with a redirect"),
        ("/endless", "sends more than 100,000 bytes"),
        ("/claims", "sends more than 100,000 bytes"),
        ("/missing", "answers with status 404"),
    ],
)
def test_what_is_not_followed_or_too_large(path, reason, elsewhere, found_at):
    port, asked = elsewhere
    found_at("127.0.0.1")
    with pytest.raises(InputError, match=rf"^documents\[0\]: .*{reason}"):
        read(port, path)
    assert asked == [path]


def test_a_server_that_never_ends_its_answer(elsewhere, found_at):
    found_at("127.0.0.1")
    with pytest.raises(InputError, match=r"could not be read in 0\.2 s"):
        read(elsewhere[0], "/drip", seconds=0.2)


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("8.8.8.8", "10.0.0.1"), ("::ffff:127.0.0.1",), ("fe80::1%lo",)])
def test_a_name_that_leads_to_a_private_address_is_not_connected_to(addresses, elsewhere, found_at):
    port, asked = elsewhere
    found_at(*addresses)
    with pytest.raises(InputError, match=r"'images\.localhost' is no public address"):
        read(port, "/dog.jpg", allowed=is_public)
    assert asked == []


def test_the_address_that_was_checked_is_the_one_that_is_asked(elsewhere, monkeypatch):
    """A name may lead elsewhere when it is looked up again."""
    port, asked = elsewhere
    looked_up = []

    def look_up(*given: object, **options: object) -> list:
        looked_up.append(given)
        return [(2, 1, 6, "", ("127.0.0.1" if len(looked_up) == 1 else "10.0.0.1", 0))]

    real = fetching.socket.create_connection
    connected = []

    def connect(address: tuple[str, int], *given: object) -> object:
        connected.append(address)
        monkeypatch.undo()  # what a socket looks up itself is a number
        return real(address, *given)

    monkeypatch.setattr(fetching.socket, "getaddrinfo", look_up)
    monkeypatch.setattr(fetching.socket, "create_connection", connect)
    assert read(port, "/dog.jpg") == JPEG
    assert len(looked_up) == 1 and connected == [("127.0.0.1", port)] and asked == ["/dog.jpg"]


@pytest.mark.parametrize(
    "url, reason",
    [
        ("file:///etc/passwd", "no URL of an image"),
        ("gopher://example.org/", "no URL of an image"),
        ("http://", "no URL of an image"),
        ("http://[::1", "no URL"),
        ("http://a b/", "no URL of an image"),
        ("http://example.org/\r\nHost: evil", "no URL of an image"),
        ("http://user:secret@example.org/", "a URL with a user's name"),
        ("http://example.org:22/", "port 22; accepted: 80"),
        ("https://example.org:80/", "port 80; accepted: 443"),
        ("http://example.org:99999/", "no URL"),
        ("http://127.0.0.1/", "no public address"),
        ("http://[::1]/", "no public address"),
        ("http://2130706433/", "no public address|no host"),
        ("http://0x7f.1/", "no public address|no host"),
        ("http://169.254.169.254/latest/meta-data/", "no public address"),
    ],
)
def test_urls_that_lead_nowhere(url, reason):
    with pytest.raises(InputError, match=reason) as refused:
        fetch(url, "documents[0]", most=100, seconds=5)
    assert "\n" not in str(refused.value) and "secret" not in str(refused.value)
