"""From strings to token ids, and back."""

import os
import re

import torch
from tokenizers import decoders
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tcl.errors import InputError
from tcl.hub_access import hub_or_cache, is_hub_id

WAY_OUT = (
    "train one with `tcl tokenizer`, or name a folder that holds tokenizer.json, or a hub id such as bert-base-uncased"
)
_ENDS = ("@@", "</w>")
"""Marks behind a token: that its word goes on, that it ends here."""


def load_tokenizer(name_or_path: str) -> PreTrainedTokenizerBase:
    """The tokenizer of config field model.text.tokenizer: a folder, or a hub id (from the local cache where the hub
    does not answer at once).

    InputError: it cannot be loaded, has no words, or no [CLS], padding or [MASK] token.
    """
    if not os.path.exists(name_or_path) and not is_hub_id(name_or_path):
        raise InputError(
            f"model.text.tokenizer: {name_or_path!r} cannot be loaded (there is no such folder); {WAY_OUT}"
        )
    with hub_or_cache(name_or_path) as silent:
        try:
            tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False)
        except Exception as error:  # transformers raises OSError, ValueError, KeyError, ... with messages of many lines
            why = f"no folder here, nor in the local cache; {silent}" if silent else _first_line(error)
            raise InputError(f"model.text.tokenizer: {name_or_path!r} cannot be loaded ({why}); {WAY_OUT}") from error
    missing = [name for name in ("cls", "pad", "mask") if getattr(tokenizer, f"{name}_token_id") is None]
    if missing:
        raise InputError(
            f"model.text.tokenizer: {name_or_path!r} has no {', '.join(missing)} token; use the tokenizer of a "
            f"BERT-like model"
        )
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # so transformers answers where there is no vocabulary
        raise InputError(f"model.text.tokenizer: {name_or_path!r} has no vocabulary; {WAY_OUT}")
    return tokenizer


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: list[str], max_tokens: int) -> tuple[Tensor, Tensor]:
    """[CLS] and the tokens of each of B texts, no [SEP], cut to max_tokens (>= 2) in all.

    Returns input_ids [B, L] int64, padded to the longest, and attention_mask [B, L] int64 (1 token, 0 padding).
    """
    encoded = tokenizer(
        texts,
        add_special_tokens=False,
        truncation=True,
        max_length=max_tokens - 1,
        # A caption that contains "<pad>" or "<mask>" is text, not padding.
        split_special_tokens=True,
        return_attention_mask=False,
        return_token_type_ids=False,
    )["input_ids"]
    length = 1 + max(map(len, encoded))
    input_ids = torch.full((len(texts), length), tokenizer.pad_token_id)
    attention_mask = torch.zeros(len(texts), length, dtype=torch.int64)
    for row, tokens in enumerate(encoded):
        input_ids[row, : 1 + len(tokens)] = torch.tensor([tokenizer.cls_token_id, *tokens])
        attention_mask[row, : 1 + len(tokens)] = 1
    return input_ids, attention_mask


def words_of(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[str]:
    """Each token as people write it, without the marks by which BPE and Unigram vocabularies note spaces.

    As transformers' token_str, less spaces around it: a piece within a word of WordPiece keeps its ##. What is nothing
    but space is one space, or a line feed.
    """
    words = [tokenizer.decode([number]) for number in ids]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and backend.decoder is None:  # then decoding leaves tokens as they are
        of_bytes = decoders.ByteLevel() if "\u0120" in backend.get_vocab() else None
        words = [of_bytes.decode([word]) if of_bytes else word.replace("\u2581", " ") for word in words]
    return [_without_ends(word).strip() or word or " " for word in words]


def _without_ends(word: str) -> str:
    end = next((end for end in _ENDS if word.endswith(end) and word != end), "")
    return word.removesuffix(end)


def join_tokens(text: str) -> str:
    """A decoded answer as people write it: BERT's tokenizers put spaces around the marks in 10:30, don't and 2.5."""
    text = re.sub(r"(?<=\w) ?([:.,'/-]) (?=\w)", r"\1", text.strip())
    return re.sub(r"\$ (?=\d)", "$", text).replace(" %", "%")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def knows_a_word(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Whether any token of `text`, cleaned, is another than the one for what is unknown."""
    return any(token != tokenizer.unk_token for token in tokenizer.tokenize(text))
