"""Closed lists of answers: text files with an answer a line, or a JSON list of texts."""

import json
import re
from pathlib import Path

from tcl.data.texts.captions import encodable
from tcl.errors import InputError

LARGEST_LIST = 64 * 2**20
"""Bytes of a file; lists of some thousand answers are a thousandth of it."""


def read_answer_list(path: Path, field: str) -> list[str]:
    """The answers of a file that is there, spaces squeezed, without empty ones.

    InputError, naming the config field or option `field`: not UTF-8, JSON that is no list of texts, no answers.
    """
    text = _text(path, field)
    found = [" ".join(encodable(answer).split()) for answer in _answers(text, path, field)]
    found = [answer for answer in found if answer]
    if not found:
        raise InputError(f"{field}: {path} is empty; give one answer a line")
    return found


def _text(path: Path, field: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_LIST + 1)
    except OSError as error:
        raise InputError(f"{field}: {path} cannot be read ({error.strerror}); give one answer a line") from error
    if len(content) > LARGEST_LIST:
        raise InputError(f"{field}: {path} is larger than {LARGEST_LIST >> 20} MiB; give one answer a line")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{field}: {path} is not UTF-8 ({error.reason}); save it as UTF-8 text") from error


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
