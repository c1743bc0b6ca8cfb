"""Captions: cleaned as the published code does."""

_DROPPED = str.maketrans("-/", "  ", ",.'!?\"()*#:;~")


def clean_caption(text: str, max_words: int) -> str:
    """Lower case without punctuation, single spaces, at most max_words words (>= 1); may come out empty."""
    text = encodable(text).lower().translate(_DROPPED).replace("<person>", "person")
    return " ".join(text.split()[:max_words])


def encodable(text: str) -> str:
    """`text` without halves of surrogate pairs, which JSON can spell and no tokenizer takes."""
    return text.encode("utf-8", "ignore").decode()
