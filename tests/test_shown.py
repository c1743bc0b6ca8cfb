"""What comes from outside is shown on one line, without characters that act on a terminal."""

import pytest

from tcl.errors import InputError
from tcl.shown import shown


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("line\u2028paragraph\u2029", r"line\u2028paragraph\u2029"),
        ("gnp.\u202egnp", r"gnp.\u202egnp"),
        ("half \ud83d", r"half \ud83d"),
        ("\x9b2J", r"\x9b2J"),
        ("\ufeffstart", r"\ufeffstart"),
    ],
)
def test_characters_that_act_are_spelt_out(text: str, line: str) -> None:
    assert shown(text) == line


@pytest.mark.parametrize(
    "text", ["a dog", "naïve café", "犬　猫", "👩\u200d🚀", "\u0645\u06cc\u200c\u062e", "10\u00a0km", r"back\slash"]
)
def test_what_people_write_stays(text: str) -> None:
    assert shown(text) == text


def test_an_error_is_one_line_whatever_it_names() -> None:
    assert str(InputError("config.yaml: line\nfeed\r is not known")) == r"config.yaml: line\nfeed\r is not known"
