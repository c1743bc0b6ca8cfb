"""An image behind a URL that somebody else wrote: nothing of this machine or its network is reached by it.

The name is looked up once, every address that it has must be a public one, and the connection goes to the address that
was checked: a second look-up could say another. No redirects, no proxies, no ports but the usual ones, and neither more
bytes nor more time than a request may take.
"""

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from urllib.parse import SplitResult, urlsplit

from tcl.errors import InputError

PORTS = {"http": 80, "https": 443}
AGENT = "tcl-serve"
_CHUNK = 2**16
_CARRIES_ANOTHER = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
"""NAT64: an IPv4 address within, which a gateway may take anywhere."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet at large, and no other is hidden in it."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip.version == 6:
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo or (None,))[0]
        if inner is not None or any(ip in network for network in _CARRIES_ANOTHER):
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def fetch(
    url: str, name: str, *, most: int, seconds: float, allowed: Callable[[str], bool] = is_public, ports=PORTS
) -> bytes:
    """What is behind `url`. most: bytes. allowed: which addresses may be reached.

    InputError, naming `name`: another scheme or port, a private address, a redirect, too many bytes, too slow, not
    there. It does not say what an address that is not allowed would have answered.
    """
    parts = _parts(url, name, ports)
    port = parts.port or PORTS[parts.scheme]
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise InputError(f"{name}: {parts.hostname!r} is no host that can be found; give another URL") from error
    addresses = [address[4][0] for address in found]
    if not all(allowed(address) for address in addresses):
        raise InputError(f"{name}: {parts.hostname!r} is no public address; give another URL")
    connection = _connection(parts.scheme, parts.hostname, addresses[0], port, seconds)
    # Every byte may come just in time; all of them together may not take longer.
    clock = threading.Timer(seconds, _hang_up, [connection])
    clock.start()
    try:
        return _read(connection, parts, name, most)
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
        raise InputError(f"{name}: {url!r} could not be read in {seconds:g} s; give another URL") from error
    finally:
        clock.cancel()
        connection.close()


def _parts(url: str, name: str, ports: dict[str, int]) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError(f"{name}: {url!r} is no URL; give one like https://example.org/dog.jpg") from error
    if parts.scheme not in ports or not parts.hostname or not url.isascii() or not url.isprintable() or " " in url:
        raise InputError(f"{name}: {url!r} is no URL of an image; give one like https://example.org/dog.jpg")
    if parts.username is not None or parts.password is not None:
        raise InputError(f"{name}: a URL with a user's name; give one without")
    if port not in (None, ports[parts.scheme]):
        raise InputError(f"{name}: port {port}; accepted: {ports[parts.scheme]} of {parts.scheme}")
    return parts


def _connection(scheme: str, host: str, address: str, port: int, seconds: float) -> http.client.HTTPConnection:
    """To `address`, which is asked for `host` (and must prove to be that, with https)."""
    connection = http.client.HTTPConnection(host, port, timeout=seconds)

    def connect() -> None:
        plain = socket.create_connection((address, port), seconds)
        secure = scheme == "https"
        connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=host) if secure else plain

    connection.connect = connect
    return connection


def _read(connection: http.client.HTTPConnection, parts: SplitResult, name: str, most: int) -> bytes:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection.request("GET", path, headers={"User-Agent": AGENT, "Accept": "image/*"})
    answer = connection.getresponse()
    if answer.status != 200:
        what = "a redirect" if 300 <= answer.status < 400 else f"status {answer.status}"
        raise InputError(f"{name}: {parts.hostname!r} answers with {what}; give the URL of an image itself")
    too_large = InputError(f"{name}: {parts.hostname!r} sends more than {most:,} bytes; give a smaller image")
    if (answer.length or 0) > most:
        raise too_large
    content = bytearray()
    while some := answer.read(_CHUNK):
        content += some
        if len(content) > most:
            raise too_large
    return bytes(content)


def _hang_up(connection: http.client.HTTPConnection) -> None:
    with contextlib.suppress(OSError, AttributeError):  # not connected yet: its own timeout ends that
        connection.sock.shutdown(socket.SHUT_RDWR)
