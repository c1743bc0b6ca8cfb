"""The picture of the search page in the README: what the demo's model finds among scenes that it has never seen.

    make demo
    python -m tools.search_page --out docs [--index demo/index --query "..."]

OUT/search_page.png and OUT/search_page_dark.png, of `tcl serve` in chromium (Debian: apt-get install chromium), which
playwright drives, one of the packages of `.[dev]`.
"""

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import jsonargparse
from PIL import Image

from tcl.errors import InputError
from tcl.shown import say, shown

NAMES = {"light": "search_page.png", "dark": "search_page_dark.png"}
VIEWPORT = {"width": 1360, "height": 700}
PATIENCE = 300_000
"""Milliseconds, on a machine that others use too."""
POLL = 100
SETTLED = """[...document.querySelectorAll('.tile img')].filter(one => one.getBoundingClientRect().top < innerHeight)
             .every(one => one.complete && one.naturalWidth)"""


def search_page(
    out: Path,
    index: Path = Path("demo/index"),
    query: str = "large orange triangle top center and large cyan square top right",
) -> None:
    """Write both pictures. InputError: no index, no chromium."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise InputError("chromium: there is none on the PATH; Debian has it as `apt-get install chromium`")
    if not index.is_dir():
        raise InputError(f"index: {index} does not exist; make it by `make demo`")
    with _served(index) as address:
        _photograph(chromium, f"{address}/?{urlencode({'q': query})}", out)


@contextlib.contextmanager
def _served(index: Path) -> Iterator[str]:
    """The address of a service of the index, which ends with the block."""
    command = [sys.executable, "-m", "tcl", "serve", str(index), "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        try:
            yield re.search(r"http://\S+", service.stdout.readline())[0]
        finally:
            service.terminate()


def _photograph(chromium: str, address: str, out: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme, name in NAMES.items():
            page = browser.new_page(viewport=VIEWPORT, color_scheme=scheme, reduced_motion="reduce")
            page.set_default_timeout(PATIENCE)
            page.goto(address)
            page.wait_for_selector("#summary:has-text('read together')")
            page.wait_for_selector("#busy", state="hidden")
            for _ in range(PATIENCE // POLL):  # playwright's own way to wait for this is eval, which the page forbids
                if page.evaluate(SETTLED):
                    break
                page.wait_for_timeout(POLL)
            page.wait_for_timeout(500)  # they fade in
            page.screenshot(path=out / name)
            _shrink(out / name)
            say(f"{out / name}: {(out / name).stat().st_size:,} bytes")
        browser.close()


def _shrink(path: Path) -> None:
    """To a palette: the page has few colours, and a file in the repository stays in it for ever."""
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


if __name__ == "__main__":
    try:
        jsonargparse.auto_cli(search_page, as_positional=False)
    except InputError as error:
        print(f"error: {shown(str(error))}", file=sys.stderr)
        sys.exit(2)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
