"""Captions: cleaned as the published code does."""

MAX_CAPTION_CHARACTERS = 10_000
"""A cleaned caption is cut there: no tokenizer is handed megabytes without a space, of which it would keep 512 tokens
at most."""

_DROPPED = str.maketrans("-/", "  ", ",.'!?\"()*#:;~")


def clean_caption(text: str, max_words: int) -> str:
    """Lower case without punctuation, single spaces, at most max_words words (>= 1) and MAX_CAPTION_CHARACTERS
    characters; may come out empty."""
    text = encodable(text).lower().translate(_DROPPED).replace("<person>", "person")
    return " ".join(text.split()[:max_words])[:MAX_CAPTION_CHARACTERS].rstrip()


def spelt_out(text: str) -> str:
    r"""`text` with halves of surrogate pairs spelt out (\ud83d): an id that any file can hold and no other id has."""
    return text.encode("utf-8", "backslashreplace").decode()


def encodable(text: str) -> str:
    """`text` without halves of surrogate pairs, which JSON can spell and no tokenizer takes."""
    return text.encode("utf-8", "ignore").decode()
