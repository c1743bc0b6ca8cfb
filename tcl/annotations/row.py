"""What a row of an annotation file is to `tcl shards`, and reading the JSON that rows come from."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tcl.errors import InputError

BAD_JSON = "line is not JSON"
NO_IMAGE_KEY = 'no "image"'
"""Causes of a skipped row."""


@dataclass(frozen=True)
class Row:
    """One sample to be: its image and the JSON beside it."""

    where: str
    """Its place in the annotations, for the report: 'line 3'."""
    image: str | None
    """Path, absolute or relative to the image folder."""
    sample: dict = field(default_factory=dict)
    """The sample's JSON, in this order."""
    blank_captions: int = 0
    """Dropped from a row that has others."""
    problem: str | None = None
    """Why the row cannot be used, where that is known already."""


def read_json(path: Path, structure: str, field: str = "annotations") -> object:
    """The JSON of a whole file, given as option `field`. InputError: unreadable, empty, not JSON."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{field}: {path} cannot be read ({error.strerror}); give a {structure} file") from error
    if not content.strip():
        raise InputError(f"{field}: {path} is empty; give a {structure} file with rows")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{field}: {path} is not JSON ({error}); for a row per line use --from jsonl or vqa"
        ) from error


def read_json_lines(path: Path, structure: str, if_list: str, if_object: str) -> Iterator[tuple[str, object | None]]:
    """'line 3' and what that line holds, None where it is not JSON; blank lines are passed over.

    if_list, if_object: the structures to suggest for a file that is one JSON list or object. InputError, at once:
    unreadable, empty, or such a file.
    """
    try:
        with path.open("rb") as file:
            first = next((line.strip() for line in file if line.strip()), None)
    except OSError as error:
        raise InputError(f"annotations: {path} cannot be read ({error.strerror}); give a {structure} file") from error
    if first is None:
        raise InputError(f"annotations: {path} is empty; give a {structure} file with rows")
    if first.startswith(b"["):
        raise InputError(f"annotations: {path} starts with a list, not with a row; use --from {if_list}")
    if first == b"{" or _is_whole_file(_parse(first)):
        raise InputError(f"annotations: {path} is one JSON object, not a row per line; is it --from {if_object}?")

    def lines() -> Iterator[tuple[str, object | None]]:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"line {number}", _parse(line)

    return lines()


def _is_whole_file(parsed: object) -> bool:
    """Files of other structures are one object that holds its rows in lists; a row names its image."""
    if not isinstance(parsed, dict) or "image" in parsed:
        return False
    return any(isinstance(parsed.get(name), list) for name in ("images", "annotations", "questions"))


def _parse(line: bytes) -> object | None:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def objects_in(content: object, name: str) -> list[dict] | None:
    """The list `content[name]` with {} for what is no object in it; None where there is no such list."""
    found = content.get(name) if isinstance(content, dict) else None
    return [item if isinstance(item, dict) else {} for item in found] if isinstance(found, list) else None


def id_key(value: object) -> str:
    """Ids are compared as JSON: whatever a file holds there can be looked up, and 1 is not "1"."""
    return json.dumps(value)
