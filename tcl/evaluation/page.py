"""Report pages: templates of this folder, filled in with every value escaped, and written.

Each is one file that needs nothing else. Its only script is filter.js, and browsers are told to run no other, whatever
captions and file names hold.
"""

import base64
import hashlib
import io
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from tcl.errors import InputError

JPEG_QUALITY = 80

_FOLDER = Path(__file__).parent
_TEMPLATES = Environment(
    loader=FileSystemLoader(_FOLDER),
    undefined=StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


@dataclass(frozen=True)
class Picture:
    """An image in a page."""

    width: int
    height: int
    base64: str
    """Of a JPEG."""


def picture_of(image: Image.Image) -> Picture:
    """An RGB image as a page holds it."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=JPEG_QUALITY)
    return Picture(image.width, image.height, base64.b64encode(stream.getvalue()).decode())


def render(template: str, **values: Any) -> str:
    """The page of a template, which extends page.html.jinja, with every value that it names."""
    style, script = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "filter.js"))
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = {"style": Markup(style), "script": Markup(script), "script_hash": script_hash}
    return _TEMPLATES.get_template(template).render(values | own)


def run_facts(output_dir: str, init: str | None, data: str, when: datetime) -> dict[str, str]:
    """What a page says of the run that it belongs to, by label."""
    from_where = {} if init is None else {"Weights": init}
    return {"Run": output_dir, **from_where, "Data": data, "Evaluated": f"{when:%Y-%m-%d %H:%M}"}


def write_text(path: Path, text: str) -> None:
    """With the folders that lead there. InputError: it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Half of a surrogate pair in a caption is no reason to lose the page.
        path.write_bytes(text.encode("utf-8", "replace"))
    except OSError as error:
        raise InputError(f"path: {path} cannot be written ({error.strerror}); name another file") from error
