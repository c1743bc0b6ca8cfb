"""What a terminal shows: names and texts from outside on one line, without a character that acts."""

import unicodedata

QUIET_SECONDS = 2
"""Progress bars of what takes less are never shown."""

_ACTING = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Unicode's categories of control and format characters, surrogates, unassigned ones, line and paragraph separators."""
_JOINERS = "\u200c\u200d"
"""Format characters that Persian words and many emoji are spelt with."""


def shown(text: str) -> str:
    r"""`text` with control characters, line breaks, turns of the writing direction and halves of surrogate pairs
    spelt out (a line feed as \n); whatever else people write stays as it is."""
    return text if text.isascii() and text.isprintable() else "".join(map(_spelt, text))


def say(line: str) -> None:
    """Print a line in which names and texts from outside may stand."""
    print(shown(line))


def _spelt(character: str) -> str:
    acts = unicodedata.category(character) in _ACTING and character not in _JOINERS
    return character.encode("unicode_escape").decode() if acts else character
