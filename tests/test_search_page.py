"""tools.search_page: the picture of the README."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import served_photographs

from tcl.errors import InputError
from tools.search_page import NAMES, VIEWPORT, search_page

ROOT = Path(__file__).parents[1]
SIZE = (VIEWPORT["width"], VIEWPORT["height"])
MAX_BYTES = 300_000


def light(path: Path) -> float:
    """Of the corner, 0 to 255."""
    return float(np.asarray(Image.open(path).convert("L"))[:10, :10].mean())


def test_the_pictures_of_the_readme_are_small():
    for name in NAMES.values():
        assert (ROOT / "docs" / name).stat().st_size < MAX_BYTES
        assert Image.open(ROOT / "docs" / name).size == SIZE
    assert light(ROOT / "docs" / NAMES["light"]) > 200 > 50 > light(ROOT / "docs" / NAMES["dark"])


def test_no_index(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(InputError, match=r"^index: nowhere does not exist; make it by `make demo`$"):
        search_page(tmp_path, index=Path("nowhere"))


def test_no_browser(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"^chromium: there is none on the PATH; Debian has it as `apt-get install ch"):
        search_page(tmp_path, index=tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium")
def test_both_are_made(tmp_path):
    search_page(tmp_path, index=served_photographs(tmp_path), query="a red dog")
    for name in NAMES.values():
        assert Image.open(tmp_path / name).size == SIZE
    assert light(tmp_path / NAMES["light"]) > 200 > 50 > light(tmp_path / NAMES["dark"])
