"""Closed lists of answers as people have them: a line each, or JSON."""

import json

import pytest

from tcl.data.texts import text_file
from tcl.data.texts.answer_list import read_answer_list
from tcl.errors import InputError

ANSWERS = ["yes", "no", "red", "blue"]


@pytest.mark.parametrize(
    "content",
    [
        "yes\nno\nred\nblue\n",
        "\ufeff yes \r\n\r\nno\r\nred\r\nblue",
        json.dumps(ANSWERS),
        "\ufeff" + json.dumps(ANSWERS, indent=1),
        '[\n"yes",\n"no",\n"red",\n"blue"\n]\n',
        json.dumps(["yes", " no", "", "red\n", "blue"]),
        json.dumps(["yes", "n\ud83do", "red", "blue"]),
    ],
)
def test_lines_and_json_lists_are_the_same_answers(tmp_path, content):
    (tmp_path / "answers").write_text(content, encoding="utf-8")
    assert read_answer_list(tmp_path / "answers", "answers.list") == ANSWERS


def test_an_answer_may_begin_with_a_bracket(tmp_path):
    (tmp_path / "answers").write_text("[unknown]\nyes\n")
    assert read_answer_list(tmp_path / "answers", "answers.list") == ["[unknown]", "yes"]


@pytest.mark.parametrize(
    "content, message",
    [
        ('["yes", "no"', "is a damaged JSON list"),
        ('[\n"yes",\n', "is a damaged JSON list"),
        ('{"yes": 0, "no": 1}', "is a JSON object; give a JSON list"),
        ('["yes", null]', "holds null as item 1; accepted: texts alone"),
        ('["yes", ["no"]]', r'holds \["no"\] as item 1'),
        ("[]", "is empty"),
        ('["", " "]', "is empty"),
        ("\udcff", "is not UTF-8"),
        ("x" * 101, "is larger than 0 MiB"),
    ],
)
def test_what_is_no_list_of_answers_is_one_line(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(text_file, "LARGEST_FILE", 100)
    (tmp_path / "answers").write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(InputError, match=rf"^answers\.list: .*answers {message}") as error:
        read_answer_list(tmp_path / "answers", "answers.list")
    assert "\n" not in str(error.value)


def test_a_folder_is_no_list(tmp_path):
    with pytest.raises(InputError, match=r"^answers: .* cannot be read \(Is a directory\)"):
        read_answer_list(tmp_path, "answers")
