"""The bytes of a sample -> its captions and its JSON; whatever is wrong with them becomes a BadSample."""

import json
import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.captions import clean_caption

NO_CAPTION = "missing caption"
EMPTY_CAPTION = "empty caption"
LONG_TEXT = "text of more than 1 MiB"
NOT_UTF8 = "caption is not UTF-8"
NOT_JSON = "invalid JSON"
NOT_AN_OBJECT = "JSON is not an object"
NOT_TEXT = "caption in JSON is not text"
BAD_TIMES = "times of a caption are not seconds, start <= end"

LONGEST_TIME = 1e9
"""Seconds: thirty years. What is beyond, infinite or no number is no time in a video."""
MAX_TEXT_BYTES = 2**20
"""Of the .txt or .json of a sample: a thousand times the longest captions that people write."""


class Caption(NamedTuple):
    """What is said of a sample, or of a part of it."""

    text: str
    start: float | None = None
    end: float | None = None
    """Seconds of a clip that it is about, start <= end; None: all of it."""


def clean_captions(fields: dict[str, bytes], max_words: int) -> list[str]:
    """As `captions_of`, cleaned and cut as in training."""
    return captions_of(fields, partial(clean_caption, max_words=max_words))


def captions_of(fields: dict[str, bytes], clean: Callable[[str], str]) -> list[str]:
    """The texts of `timed_captions`. BadSample: none."""
    return [caption.text for caption in timed_captions(fields, clean)]


def timed_captions(fields: dict[str, bytes], clean: Callable[[str], str]) -> list[Caption]:
    """All captions of a sample, cleaned, at least one: those of its json, or else the lines of its txt.

    In the json a caption is a text, or {"text", "start", "end"}. Blank ones, and null, are left out. BadSample: none.
    """
    problem = NO_CAPTION
    for read, extension in ((_captions_in_json, "json"), (_captions_in_text, "txt")):
        if extension not in fields:
            continue
        try:
            captions = [caption._replace(text=clean(caption.text)) for caption in read(fields[extension])]
        except BadSample as error:
            problem = str(error) if problem == NO_CAPTION else problem
            continue
        captions = [caption for caption in captions if caption.text]
        if captions:
            return captions
        problem = EMPTY_CAPTION
    raise BadSample(problem)


def _captions_in_text(content: bytes) -> list[Caption]:
    return [Caption(line) for line in re.split(r"\r\n|\r|\n", text_of(content))]


def text_of(content: bytes) -> str:
    """BadSample: NOT_UTF8, LONG_TEXT."""
    if len(content) > MAX_TEXT_BYTES:
        raise BadSample(LONG_TEXT)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadSample(NOT_UTF8) from error


def json_of(fields: dict[str, bytes]) -> dict:
    """The JSON object of a sample, {} without one. BadSample: as parse_json."""
    return parse_json(fields["json"]) if "json" in fields else {}


def parse_json(content: bytes) -> dict:
    """A JSON object. BadSample: NOT_UTF8, LONG_TEXT, NOT_JSON, NOT_AN_OBJECT."""
    try:
        found = json.loads(text_of(content))
    except (ValueError, RecursionError) as error:
        raise BadSample(NOT_JSON) from error
    if not isinstance(found, dict):
        raise BadSample(NOT_AN_OBJECT)
    return found


def _captions_in_json(content: bytes) -> list[Caption]:
    found = parse_json(content)
    captions = found["captions"] if found.get("captions") is not None else found.get("caption")
    if captions is None:
        raise BadSample(NO_CAPTION)
    if isinstance(captions, str):
        captions = [captions]
    if not isinstance(captions, list):
        raise BadSample(NOT_TEXT)
    return [_caption(caption) for caption in captions if caption is not None]


def _caption(given: object) -> Caption:
    if isinstance(given, str):
        return Caption(given)
    if not isinstance(given, dict) or not isinstance(given.get("text"), str):
        raise BadSample(NOT_TEXT)
    start, end = seconds_in(given, BAD_TIMES)
    return Caption(given["text"], start, end)


def seconds_in(given: dict, problem: str) -> tuple[float | None, float | None]:
    """The "start" and "end" of a JSON object, both or none. BadSample, with `problem` as its cause: no such times."""
    times = given.get("start"), given.get("end")
    if times == (None, None):
        return times
    for time in times:
        if not isinstance(time, int | float) or isinstance(time, bool) or not abs(time) < LONGEST_TIME:
            raise BadSample(problem)
    if times[0] > times[1]:
        raise BadSample(problem)
    return times
