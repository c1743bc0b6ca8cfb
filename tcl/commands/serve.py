"""Serve an index: a page to search it, and an HTTP interface for programs.

    tcl serve photos.index
    tcl serve photos.index --host 0.0.0.0 --token "$(cat token.txt)"

The page is at the address that it prints, the interface at /v1 (search, rerank, embeddings), its description at /docs;
/healthz and /metrics are for those who keep it. On another host than 127.0.0.1 it wants a token of every request. It
sees what `tcl index` writes meanwhile. SIGTERM or Ctrl-C ends it after the requests that run.
"""

import argparse
import os
from pathlib import Path

from tcl.commands.model_options import add_hardware_options
from tcl.commands.parse_number import parse_number
from tcl.commands.parser import command_parser
from tcl.errors import InputError
from tcl.optional_package import import_optional

TOKEN = "TCL_TOKEN"
"""Of the environment; a command line can be read by others on the machine."""
PACKAGES = ("fastapi", "uvicorn", "prometheus_client")


def parser() -> argparse.ArgumentParser:
    """What `tcl serve --help` lists."""
    options = command_parser("tcl serve", __doc__)
    options.add_argument("index", type=Path, metavar="INDEX", help="a folder that `tcl index` wrote, or writes")
    options.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="default 127.0.0.1: this machine alone")
    options.add_argument("--port", type=int, default=8765, metavar="N", help="default 8765; 0: any that is free")
    options.add_argument("--token", metavar="TEXT", help=f"what requests bring (default: {TOKEN} of the environment)")
    options.add_argument("--allow_urls", action="store_true", help="documents may be behind public URLs")
    options.add_argument("--max_body", default="32MiB", metavar="SIZE", help="of a request (default 32MiB)")
    options.add_argument("--max_pixels", default="50e6", metavar="N", help="of an image (default 50e6)")
    options.add_argument("--max_candidates", type=int, default=1000, metavar="N", help="of a request (default 1000)")
    options.add_argument("--max_seconds", type=float, default=30, metavar="S", help="of a request (default 30)")
    options.add_argument("--max_waiting", type=int, default=256, metavar="N", help="requests, then 429 (default 256)")
    options.add_argument("--model", metavar="MODEL", help="where the model of the index is now, if it has moved")
    options.add_argument("--matcher", metavar="MODEL", help="the same of another model that matches")
    add_hardware_options(options)
    return options


def main(arguments: list[str]) -> None:
    """InputError: no index, no model, an address that cannot be had, a host that others reach without a token."""
    given = parser().parse_args(arguments)
    if not 0 <= given.port < 2**16:
        raise InputError(f"port: {given.port}; accepted: 0 to 65535")
    body, pixels = (parse_number(name, getattr(given, name)) for name in ("max_body", "max_pixels"))
    for name in PACKAGES:
        import_optional(name, "serve")
    from functools import partial

    from tcl.index.index import Index
    from tcl.serve.limits import Limits
    from tcl.serve.run import serve

    running = {"device": given.device, "precision": given.precision, "batch_size": given.batch_size}
    serve(
        given.index,
        partial(Index.open, given.index, given.model, given.matcher, **running),
        host=given.host,
        port=given.port,
        token=given.token or os.environ.get(TOKEN) or None,
        limits=Limits(body, pixels, given.max_candidates, given.max_seconds, given.max_waiting),
        follow_urls=given.allow_urls,
    )
