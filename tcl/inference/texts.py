"""Texts as people have them to tokens, cleaned and cut as in training."""

import warnings
from collections.abc import Iterable, Sequence

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tcl.data.texts.captions import clean_caption
from tcl.data.texts.tokenize import tokenize
from tcl.errors import InputError

MAX_WORDS = 1000
"""A longer text is a document: to read its first words alone would hardly be what was asked for."""


def list_texts(texts: str | Iterable[str], name: str = "texts") -> list[str]:
    """One text or several as a list. InputError: none at all, no text, nothing but punctuation, over MAX_WORDS."""
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, Iterable):
        raise InputError(f"{name}: a {type(texts).__name__} is no text; give a string or a list of strings")
    listed = list(texts)
    if not listed:
        raise InputError(f"{name}: there are none; give at least one")
    for i, text in enumerate(listed):
        if not isinstance(text, str):
            raise InputError(f"{name}[{i}]: a {type(text).__name__} is no text; give a string")
        words = len(text.split())
        if words > MAX_WORDS:
            raise InputError(f"{name}[{i}]: {words:,} words; give a caption of a few words, {MAX_WORDS:,} at most")
        if not clean_caption(text, MAX_WORDS):
            raise InputError(f"{name}[{i}]: {text!r} has no words; give a text")
    return listed


def tokenize_texts(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, *, max_words: int, max_tokens: int, name: str = "texts"
) -> tuple[Tensor, Tensor]:
    """Listed texts -> ids and mask [T, L], as tcl.data.texts.tokenize.tokenize, on the host.

    What is beyond max_words or max_tokens is not read; a UserWarning says how many texts that concerns. InputError: a
    text without any token, such as one of characters that have no width.
    """
    cleaned = [clean_caption(text, MAX_WORDS) for text in texts]
    kept = [" ".join(text.split()[:max_words]) for text in cleaned]
    ids, mask = tokenize(tokenizer, kept, max_tokens + 1)  # one more than is read, to see whether there is more
    for i, has_words in enumerate(mask[:, 1:].any(dim=1).tolist()):
        if not has_words:
            raise InputError(f"{name}[{i}]: {texts[i]!r} has no words; give a text")
    longer = mask[:, max_tokens:].any(dim=1).tolist()
    cut = sum(was != text or more for was, text, more in zip(cleaned, kept, longer, strict=True))
    if cut:
        warnings.warn(
            f"{name}: {cut:,} of {len(texts):,} longer than the {max_words} words and {max_tokens} tokens that this "
            f"model reads; the rest of them is left out",
            stacklevel=3,
        )
    return ids[:, :max_tokens], mask[:, :max_tokens]
