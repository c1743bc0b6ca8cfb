"""Documents behind URLs: nothing but a public server is asked, once, for as much as may be."""

import contextlib
import http.server
import ipaddress
import threading
from collections.abc import Callable

import pytest
from data_files import encode, noise

from tcl.errors import InputError
from tcl.serve import fetch as fetching
from tcl.serve.fetch import fetch, is_public

JPEG = encode(noise(3, (60, 40)))


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
