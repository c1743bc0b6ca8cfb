"""What a row of an annotation file is to `tcl shards`."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

BAD_JSON = "line is not JSON"
NO_IMAGE_KEY = 'no "image"'
TOO_MUCH_TEXT = "more than 1 MiB of text"
"""Causes of a skipped row."""

LARGEST_SAMPLE = 2**20
"""Bytes of a sample's JSON: a thousand times what captions need, and nothing that could fill a training process."""


@dataclass(frozen=True)
class Row:
    """One sample to be: its image and the JSON beside it."""

    where: str
    """Its place in the annotations, for the report: 'line 3'."""
    image: str | None
    """Path, absolute or relative to the image folder; a clip may have none."""
    sample: dict = field(default_factory=dict)
    """The sample's JSON, in this order."""
    right_image: str | None = None
    """Of a sample of two images, of which `image` is the left one."""
    video: str | None = None
    sound: str | None = None
    """Paths of a clip's video and of the sound beside it; the sound's, relative to the folder of sounds."""
    blank_captions: int = 0
    """Dropped from a row that has others."""
    problem: str | None = None
    """Why the row cannot be used, where that is known already."""


def bounded(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows, those whose JSON is larger than LARGEST_SAMPLE as unusable ones."""
    for row in rows:
        if row.problem is None and len(json.dumps(row.sample)) > LARGEST_SAMPLE:
            row = replace(row, sample={}, problem=TOO_MUCH_TEXT)
        yield row


def objects_in(content: object, name: str) -> list[dict] | None:
    """The list `content[name]` with {} for what is no object in it; None where there is no such list."""
    found = content.get(name) if isinstance(content, dict) else None
    return [item if isinstance(item, dict) else {} for item in found] if isinstance(found, list) else None


def without_duplicates(rows: Iterable[Row], name: str, problem: str) -> Iterator[Row]:
    """Of usable rows with one id in sample[name] only the first stays usable; the others have the `problem`."""
    seen = set()
    for row in rows:
        key = id_key(row.sample.get(name)) if row.problem is None else None
        if key in seen:
            row = replace(row, problem=problem)
        elif key is not None:
            seen.add(key)
        yield row


def is_whole_id(value: object) -> bool:
    """Whether an integer, or a text that is not empty."""
    return isinstance(value, int | str) and not isinstance(value, bool) and value != ""


def is_id(value: object) -> bool:
    """Whether a number, or a text that is not empty."""
    return is_whole_id(value) or (isinstance(value, float) and math.isfinite(value))


def id_key(value: object) -> str | None:
    """Ids are compared as JSON: 1 is not "1". None for what is none, of which no two are the same."""
    return json.dumps(value) if is_id(value) else None
