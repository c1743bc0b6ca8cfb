"""Rows of clips with sound and captions: clips of `tcl shards`."""

from collections.abc import Iterator
from pathlib import Path

from tcl.annotations.json_file import BadLine, read_lines_or_json
from tcl.annotations.recognise import structure_of
from tcl.annotations.row import Row, is_whole_id
from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.sample_texts import BAD_TIMES, NOT_TEXT, seconds_in
from tcl.errors import InputError
from tcl.optional_package import import_optional

NO_MEDIA_KEY = 'no "video", "image" or "audio"'
NOT_AS_MANY = 'not as many "start" and "end" as captions'
BAD_PART = '"start" and "end" of the clip are not seconds, start <= end'
"""Causes of a skipped row."""

_FILES = ("video", "image", "audio")
_CAPTIONS = ("captions", "caption", "text")
"""Names of one thing, in the order in which they count; "text" is HowTo100M's."""
_KEPT = ("image_id", "label", "fold")


def clip_rows(path: Path) -> Iterator[Row]:
    """A row per line, or of a list, {"video", or "image" for a still, "audio" beside it, "captions"}: any of them may
    be missing, but not all files.

    A caption is a text or {"text", "start", "end"}, seconds of the file; or "start" and "end" are lists beside the
    captions. As numbers they are the part of the file that the row is about. InputError: of another structure,
    or nothing to decode them with.
    """
    import_optional("av", "media")
    lines, content = read_lines_or_json(path, "clips")
    if lines is None:
        if not isinstance(content, list):
            better = structure_of(content) or "coco"
            raise InputError(f"annotations: {path} is one JSON object, not a row per line; is it --from {better}?")
        lines = ((f"item {i}", item) for i, item in enumerate(content))
    return (
        Row(where, None, problem=item.cause) if isinstance(item, BadLine) else clip_row(where, item)
        for where, item in lines
    )


def clip_row(where: str, item: object) -> Row:
    """The row of one object; captions that are null or blank are dropped."""
    if not isinstance(item, dict):
        return Row(where, None, problem=NO_MEDIA_KEY)
    files = {name: item[name] for name in _FILES if isinstance(item.get(name), str) and item[name]}
    if not files:
        return Row(where, None, problem=NO_MEDIA_KEY)
    named = next(iter(files.values()))
    try:
        given = _captions(item)
        part = _part(item)
        kept = [caption for caption in given if _text_of(caption).strip()]
    except BadSample as cause:
        return Row(where, named, problem=str(cause))
    kept_ids = {name: item[name] for name in _KEPT if is_whole_id(item.get(name))}
    sample = ({"captions": kept} if kept else {}) | part | kept_ids | files
    return Row(
        where,
        None if "video" in files else files.get("image"),
        sample,
        video=files.get("video"),
        sound=files.get("audio"),
        blank_captions=len(given) - len(kept),
    )


def _captions(item: dict) -> list:
    """As many as there are, with their times. BadSample: no captions."""
    given = next((item[name] for name in _CAPTIONS if item.get(name) is not None), [])
    given = [given] if isinstance(given, str) else given
    if not isinstance(given, list):
        raise BadSample(NOT_TEXT)
    starts, ends = item.get("start"), item.get("end")
    if not isinstance(starts, list) and not isinstance(ends, list):
        return given
    if not isinstance(starts, list) or not isinstance(ends, list) or not len(starts) == len(ends) == len(given):
        raise BadSample(NOT_AS_MANY)
    return [
        {"text": _text_of(text), "start": start, "end": end}
        for text, start, end in zip(given, starts, ends, strict=True)
    ]


def _text_of(caption: object) -> str:
    """BadSample: it has none, or impossible times."""
    if isinstance(caption, dict):
        seconds_in(caption, BAD_TIMES)
        caption = caption.get("text")
    if not isinstance(caption, str | None):
        raise BadSample(NOT_TEXT)
    return caption or ""


def _part(item: dict) -> dict:
    if isinstance(item.get("start"), list):
        return {}
    start, end = seconds_in(item, BAD_PART)
    return {} if start is None else {"start": start, "end": end}
