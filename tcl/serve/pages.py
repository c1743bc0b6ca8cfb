"""The files of the page, as they lie in this folder: no build, nothing from elsewhere."""

from importlib.resources import files

from starlette.responses import Response

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}


def read_pages() -> dict[str, Response]:
    """By name."""
    found = {}
    for file in files("tcl.serve").joinpath("page").iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in TYPES:
            headers = {"Cache-Control": "no-cache"}
            found[file.name] = Response(file.read_bytes(), media_type=TYPES[suffix], headers=headers)
    return found
