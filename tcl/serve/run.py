"""The service as a process: it listens, says who can reach it, and in the end finishes what runs."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import uvicorn

from tcl.errors import InputError
from tcl.index.index import Index
from tcl.serve.app import make_app
from tcl.serve.guard import ALONE, check_token
from tcl.serve.limits import Limits
from tcl.serve.service import Service, opened
from tcl.shown import say

BACKLOG = 512


def serve(
    folder: Path,
    open_index: Callable[[], Index],
    *,
    host: str,
    port: int,
    token: str | None,
    limits: Limits,
    follow_urls: bool,
) -> None:
    """Until it is told to stop (SIGTERM, Ctrl-C). port 0: any that is free.

    InputError: no index or model, an address that cannot be had, a host that others reach without a token.
    """
    check_token(host, token)
    with (
        contextlib.closing(_listening(host, port)) as listening,
        opened(folder, open_index, limits=limits, token=token, follow_urls=follow_urls) as service,
    ):
        config = uvicorn.Config(
            make_app(service),
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=int(limits.seconds) + 1,
        )
        say(_said(service, host, listening.getsockname()[1]))
        sys.stdout.flush()
        _run(uvicorn.Server(config), listening)


def _run(server: uvicorn.Server, listening: socket.socket) -> None:
    """uvicorn raises the signal again that it has obeyed: SIGTERM has done its work by then."""
    warnings.filterwarnings("ignore", "texts: .* longer than", UserWarning)  # what clients send is their affair
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        asyncio.run(server.serve(sockets=[listening]))
    finally:
        signal.signal(signal.SIGTERM, before)


def _listening(host: str, port: int) -> socket.socket:
    """Bound before a model is loaded: a port that is taken is told at once."""
    try:
        return socket.create_server((host, port), family=_family(host), backlog=BACKLOG, reuse_port=False)
    except (OSError, OverflowError) as error:
        known = isinstance(error, OSError) and (error.errno or 0) > 0
        reason = os.strerror(error.errno) if known else "no such address"
        raise InputError(f"port: {host}:{port} cannot be had ({reason}); give another --port or --host") from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _said(service: Service, host: str, port: int) -> str:
    """One line: where it is, and who can reach it."""
    shown = f"[{host}]" if ":" in host else host
    everybody = host in ("0.0.0.0", "::", "")
    who = (
        "only programs on this machine reach it"
        if host == ALONE
        else "everybody who reaches this machine"
        if everybody
        else f"everybody who reaches {shown}"
    )
    knows = "" if service.token is None else ", with the token" if host == ALONE else " and has the token"
    return f"{service.folder}: http://{shown}:{port} ({who}{knows})"
