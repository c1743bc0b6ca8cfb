"""Rows of questions in the forms that public data sets have, other than VQA v2's: vqa of `tcl shards`."""

from collections.abc import Iterator
from pathlib import Path

from tcl.annotations.image_name import BY_ID, checked_template, image_path
from tcl.annotations.json_file import BadLine, read_lines_or_json
from tcl.annotations.question_row import DUPLICATE_QUESTION, answers_of, question_row
from tcl.annotations.recognise import structure_of
from tcl.annotations.row import NO_IMAGE_KEY, Row, without_duplicates
from tcl.errors import InputError

IMAGE_IDS = ("image_id", "imageId")
QUESTION_IDS = ("question_id", "questionId")
ANSWERS = ("answers", "answer")
"""Names of one thing, in the order in which they count."""


def vqa_rows(path: Path, image_name: str | None) -> Iterator[Row]:
    """A row per question {"question", "image" or "image_id", "answers" or "answer", perhaps "question_id" and types}.

    The file has one per line, a list of them (ALBEF, TCL, VizWiz), {"data": list} (TextVQA) or {question_id: question}
    (GQA). A list or object in which nobody answers is a test split: "answers" is []. image_name: template of the path
    of an image that is named by its id, default BY_ID. InputError: a file of another structure, no template.
    """
    template = checked_template(image_name, BY_ID)
    lines, content = read_lines_or_json(path, "vqa")
    items = _items(content) if lines is None else lines
    if items is None:
        raise InputError(f"annotations: {path} {_mistaken(content)}")
    unanswered = lines is None and not any(
        isinstance(item, dict) and any(item.get(name) for name in ANSWERS) for _, item in items
    )
    rows = (_row(where, item, template, unanswered) for where, item in items)
    return without_duplicates(rows, "question_id", DUPLICATE_QUESTION)


def _items(content: object) -> list[tuple[str, object]] | None:
    """The questions of a whole file, and where they are; None for a file of another structure."""
    if isinstance(content, dict) and isinstance(content.get("data"), list):
        content = content["data"]
    if structure_of(content) != "vqa":
        return None
    if isinstance(content, list):
        return [(f"item {i}", item) for i, item in enumerate(content)]
    return [
        (f"question {name}", {"question_id": name, **item} if isinstance(item, dict) else item)
        for name, item in content.items()
    ]


def _mistaken(content: object) -> str:
    is_list = isinstance(content, list)
    kind = "starts with a list, not with a row" if is_list else "is one JSON object, not a row per line"
    better = structure_of(content)
    if better in (None, "vqa"):
        return f'{kind}; give rows {{"question_id", "image", "question", "answers"}}, one per line or as a list'
    return f"{kind}; is it --from {better}?"


def _row(where: str, item: object, template: str, unanswered: bool) -> Row:
    if isinstance(item, BadLine):
        return Row(where, None, problem=item.cause)
    if not isinstance(item, dict):
        return Row(where, None, problem=NO_IMAGE_KEY)
    image = item.get("image")
    if image is None:
        image = image_path(template, _first(item, IMAGE_IDS))
    if not isinstance(image, str) or not image:
        return Row(where, None, problem=NO_IMAGE_KEY)
    answers = _first(item, ANSWERS)
    # "answers" is what annotators said, "answer" may be what they agree on.
    if isinstance(answers, str) and item.get("answers") is None:
        answers = [answers]
    if answers is None and unanswered:
        answers = []
    return question_row(
        where, image, item | {"question_id": _first(item, QUESTION_IDS)}, answers_of(answers), unanswered
    )


def _first(item: dict, names: tuple[str, ...]) -> object:
    return next((item[name] for name in names if item.get(name) is not None), None)
