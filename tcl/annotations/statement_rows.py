"""Rows of texts about images with a label: snli_ve and nlvr2 of `tcl shards`."""

import re
from collections.abc import Iterator
from pathlib import Path

from tcl.annotations.image_name import BY_ID, checked_template, image_path
from tcl.annotations.json_file import BadLine, read_lines_or_json
from tcl.annotations.recognise import structure_of
from tcl.annotations.row import NO_IMAGE_KEY, Row
from tcl.errors import InputError

NO_HYPOTHESIS = 'no "hypothesis" or "sentence2"'
NO_SENTENCE = 'no "sentence"'
NOT_TWO_IMAGES = "not two images"
NO_CONSENSUS = "label is none of contradiction, neutral, entailment"
NOT_TRUE_OR_FALSE = "label is neither True nor False"
"""Causes of a skipped row."""

ENTAILMENT = ("contradiction", "neutral", "entailment")
TRUTH = {"true": "True", "false": "False"}
_IMAGE_IDS = ("Flickr30K_ID", "Flickr30k_ID", "Flikr30kID")
_TEXTS = ("hypothesis", "sentence2", "sentence")
_LABELS = ("gold_label", "label")
"""Names of one thing, in the order in which they count."""
_IDENTIFIER = re.compile(r"([A-Za-z]\w*)-(\w+)-(\w+)-(\w+)")


def snli_ve_rows(path: Path, image_name: str | None) -> Iterator[Row]:
    """A row per hypothesis: of SNLI-VE's lines {"Flickr30K_ID", "sentence2", "gold_label"}, of the lists of ALBEF and
    TCL [{"image", "sentence", "label"}], of lines {"image", "hypothesis", "label"}. The premise stays behind.

    image_name: template of the path of an image that is named by its number, default BY_ID. InputError: a file of
    another structure, no template.
    """
    template = checked_template(image_name, BY_ID)
    return (_hypothesis(where, item, template) for where, item in _items(path, "snli_ve"))


def nlvr2_rows(path: Path) -> Iterator[Row]:
    """A row per sentence: of the official lines {"identifier", "sentence", "label", perhaps "directory"}, whose images
    lie where the official archives have them, or of lines or lists (ALBEF, TCL) of {"images": [left, right],
    "sentence", "label"}. InputError: a file of another structure.
    """
    return (_sentence(where, item) for where, item in _items(path, "nlvr2"))


def _items(path: Path, structure: str) -> Iterator[tuple[str, object]]:
    lines, content = read_lines_or_json(path, structure)
    if lines is not None:
        return lines
    better = structure_of(content)
    if not isinstance(content, list) or better != structure:
        kind = "starts with a list of other rows" if isinstance(content, list) else "is one JSON object"
        advice = f"is it --from {better}?" if better not in (None, structure) else "give a row per line, or a list"
        raise InputError(f"annotations: {path} {kind}; {advice}")
    return ((f"item {i}", item) for i, item in enumerate(content))


def _hypothesis(where: str, item: object, template: str) -> Row:
    if not isinstance(item, dict):
        return Row(where, None, problem=item.cause if isinstance(item, BadLine) else NO_IMAGE_KEY)
    image = item.get("image")
    if image is None or (isinstance(image, str | int) and str(image).isdecimal()):  # ALBEF's lists name it by number
        image = image_path(template, _first(item, _IMAGE_IDS) if image is None else image)
    if not isinstance(image, str) or not image:
        return Row(where, None, problem=NO_IMAGE_KEY)
    text, label = _first(item, _TEXTS), _first(item, _LABELS)
    if not isinstance(text, str) or not text.strip():
        return Row(where, image, problem=NO_HYPOTHESIS)
    if label not in ENTAILMENT:
        return Row(where, image, problem=NO_CONSENSUS)
    return Row(where, image, {"hypothesis": text, "label": label, "image": image})


def _sentence(where: str, item: object) -> Row:
    if not isinstance(item, dict):
        return Row(where, None, problem=item.cause if isinstance(item, BadLine) else NOT_TWO_IMAGES)
    images = _two_images(item)
    if images is None:
        return Row(where, None, problem=NOT_TWO_IMAGES)
    text, label = item.get("sentence"), TRUTH.get(str(item.get("label")).strip().lower())
    if not isinstance(text, str) or not text.strip():
        return Row(where, images[0], problem=NO_SENTENCE)
    if label is None:
        return Row(where, images[0], problem=NOT_TRUE_OR_FALSE)
    named = {name: item[name] for name in ("identifier", "group") if isinstance(item.get(name), str) and item[name]}
    sample = {"sentence": text, "label": label, **named, "images": list(images)}
    return Row(where, images[0], sample, right_image=images[1])


def _two_images(item: dict) -> tuple[str, str] | None:
    """Their paths, those that are listed or those of the official archives. None: there are no two."""
    listed = item.get("images")
    if listed is not None:
        two = isinstance(listed, list) and len(listed) == 2 and all(isinstance(name, str) and name for name in listed)
        return tuple(listed) if two else None
    match = _IDENTIFIER.fullmatch(item["identifier"]) if isinstance(item.get("identifier"), str) else None
    if match is None:
        return None
    directory = item.get("directory")  # of the training images, of which there are too many for one folder
    folder = match[1] if not isinstance(directory, str | int) or directory == "" else f"{match[1]}/{directory}"
    left, right = (f"{folder}/{match[1]}-{match[2]}-{match[3]}-img{i}.png" for i in range(2))
    return left, right


def _first(item: dict, names: tuple[str, ...]) -> object:
    return next((item[name] for name in names if item.get(name) is not None), None)
