"""Closed lists of answers: text files with an answer a line, or a JSON list of texts."""

import json
import re
from pathlib import Path

from tcl.data.texts.captions import encodable
from tcl.data.texts.text_file import read_text_file
from tcl.errors import InputError


def read_answer_list(path: Path, field: str) -> list[str]:
    """The answers of a file that is there, spaces squeezed, without empty ones.

    InputError, naming the config field or option `field`: not UTF-8, JSON that is no list of texts, no answers.
    """
    text = read_text_file(path, field, "give one answer a line")
    found = [" ".join(encodable(answer).split()) for answer in _answers(text, path, field)]
    found = [answer for answer in found if answer]
    if not found:
        raise InputError(f"{field}: {path} is empty; give one answer a line")
    return found


def read_closed_list(path: Path, field: str) -> list[str]:
    """As `read_answer_list`, each answer once. InputError: one that is there twice, too."""
    found = read_answer_list(path, field)
    seen: set[str] = set()
    for answer in found:
        if answer in seen:
            raise InputError(f"{field}: {path} holds {answer!r} twice; give each answer once")
        seen.add(answer)
    return found


def _answers(text: str, path: Path, field: str) -> list[str]:
    try:
        content = json.loads(text) if text.lstrip()[:1] in ("[", "{") else None
    except (ValueError, RecursionError) as error:
        if not re.match(r'\s*(\[\s*"|\{\s*"|\[\s*$)', text):
            return text.splitlines()  # an answer may begin with a bracket
        raise InputError(f"{field}: {path} is a damaged JSON list ({error}); give one answer a line") from error
    if content is None:
        return text.splitlines()
    if not isinstance(content, list):
        raise InputError(f'{field}: {path} is a JSON object; give a JSON list ["yes", "no"], or one answer a line')
    odd = next((i for i, answer in enumerate(content) if not isinstance(answer, str)), None)
    if odd is not None:
        raise InputError(f"{field}: {path} holds {json.dumps(content[odd])[:40]} as item {odd}; accepted: texts alone")
    return content
