"""The classes of a classifier, and templates that make a text of the name of one: files with one a line."""

from collections.abc import Sequence
from pathlib import Path

from tcl.data.texts.captions import encodable
from tcl.data.texts.text_file import read_text_file
from tcl.errors import InputError

PLACE = "{}"
"""In a template, where the name of the class goes."""


def read_class_list(path: Path, field: str) -> list[str]:
    """The names of a file's lines, spaces squeezed.

    InputError, naming the config field `field`: as `read_text_file`, a blank line, a name that is there twice, or fewer
    than two.
    """
    names = _lines(path, field, "give one class a line")
    check_names(names, f"{field}: {path}")
    if len(names) < 2:
        raise InputError(f"{field}: {path} holds {len(names)} class; give two or more, one a line")
    return names


def check_names(names: Sequence[str], place: str) -> None:
    """InputError, which begins with `place`: a name is there twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InputError(f"{place} holds {name!r} twice; give each class once")
        seen.add(name)


def read_templates(path: Path, field: str) -> list[str]:
    """The templates of a file's lines. InputError as `read_class_list` and `check_templates`."""
    templates = _lines(path, field, "give one template a line, such as a photo of a {}.")
    check_templates(templates, f"{field}: {path}")
    return templates


def check_templates(templates: Sequence[str], place: str) -> None:
    """InputError, which begins with `place`: one without PLACE."""
    lacking = next((template for template in templates if PLACE not in template), None)
    if lacking is not None:
        raise InputError(
            f"{place} holds {lacking!r}, which has no {PLACE} for the name of a class; write e.g. a photo of a {PLACE}."
        )


def _lines(path: Path, field: str, accepted: str) -> list[str]:
    """At least one."""
    lines = [" ".join(encodable(line).split()) for line in read_text_file(path, field, accepted).splitlines()]
    if not any(lines):
        raise InputError(f"{field}: {path} is empty; {accepted}")
    if "" in lines:
        raise InputError(f"{field}: {path} has a blank line, number {lines.index('') + 1}; {accepted}")
    return lines
