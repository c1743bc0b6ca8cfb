"""Report pages: templates of this folder, filled in with every value escaped, and written."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from tcl.errors import InputError

JPEG_QUALITY = 80

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
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
    """The page of a template, with every value that it names."""
    return _TEMPLATES.get_template(template).render(values)


def write_text(path: Path, text: str) -> None:
    """With the folders that lead there. InputError: it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Half of a surrogate pair in a caption is no reason to lose the page.
        path.write_bytes(text.encode("utf-8", "replace"))
    except OSError as error:
        raise InputError(f"path: {path} cannot be written ({error.strerror}); name another file") from error
