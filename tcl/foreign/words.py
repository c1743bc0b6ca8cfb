"""Texts as a model of transformers takes them, by the tokenizer that lies beside it: not cleaned as ours are, since it
was trained on texts as people write them."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from tcl.data.texts.captions import MAX_CAPTION_CHARACTERS, encodable
from tcl.encoders.text_encoder import longest_text
from tcl.errors import InputError
from tcl.foreign.source import first_line
from tcl.hub_access import hub_or_cache

MOST_TOKENS = 512
"""Of a text, where positions are computed for texts of any length."""


@dataclass(frozen=True)
class Tokenized:
    """T texts."""

    ids: Tensor
    """[T, L] int64."""
    mask: Tensor
    """[T, L] int64: 1 token, 0 padding."""
    has_words: list[bool]
    """[T]; False: nothing but marks of begin and end, as of characters that have no width."""
    is_cut: list[bool]
    """[T]: longer than the model reads."""


@dataclass(frozen=True)
class Reader:
    """A tokenizer, and how its model was trained to be given its tokens."""

    tokenizer: PreTrainedTokenizerBase
    max_tokens: int
    """Of a text, marks of begin and end included."""
    fills_up: bool = False
    """Every text is filled up to max_tokens, and the model sees the padding, as SigLIP does: it is part of the text."""

    def clean(self, text: str) -> str:
        """Single spaces, MAX_CAPTION_CHARACTERS characters at most; may come out empty."""
        return " ".join(encodable(text).split())[:MAX_CAPTION_CHARACTERS]

    def tokenize(self, cleaned: Sequence[str]) -> Tokenized:
        """T >= 1 texts, cut to max_tokens, on the host. Texts that spell a special token are texts."""
        plain = {"split_special_tokens": True, "return_attention_mask": True}
        whole = self.tokenizer(list(cleaned), add_special_tokens=False, verbose=False, **plain)["input_ids"]
        most = self.max_tokens - self.tokenizer.num_special_tokens_to_add()
        found = self.tokenizer(
            list(cleaned),
            padding="max_length" if self.fills_up else "longest",
            padding_side=self.tokenizer.padding_side if self.fills_up else "right",
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
            **plain,
        )
        ids = found["input_ids"]
        mask = torch.ones_like(ids) if self.fills_up else found["attention_mask"]
        return Tokenized(ids, mask, [len(text) > 0 for text in whole], [len(text) > most for text in whole])

    def knows(self, text: str) -> bool:
        """Whether there is a token for any part of it, and not that of unknown words alone."""
        found = self.tokenizer(self.clean(text), add_special_tokens=False, verbose=False, split_special_tokens=True)
        return any(one != self.tokenizer.unk_token_id for one in found["input_ids"])

    def read(self, texts: Sequence[str], name: str = "texts") -> tuple[Tensor, Tensor]:
        """Listed texts -> ids and mask [T, L]; a UserWarning says how many were cut. InputError: a text without any
        token, which `name` and its place name."""
        found = self.tokenize([self.clean(text) for text in texts])
        for i, has_words in enumerate(found.has_words):
            if not has_words:
                raise InputError(f"{name}[{i}]: {texts[i]!r} has no words; give a text")
        if any(found.is_cut):
            warnings.warn(
                f"{name}: {sum(found.is_cut):,} of {len(texts):,} longer than the {self.max_tokens} tokens that this "
                f"model reads; the rest of them is left out",
                stacklevel=3,
            )
        return found.ids, found.mask


def load_reader(source: str, revision: str | None, architecture: PreTrainedConfig, *, fills_up: bool = False) -> Reader:
    """architecture: of the network that reads texts.

    InputError: no tokenizer beside the model, or one that wants a package that is not installed, knows no padding, or
    has more tokens.
    """
    with hub_or_cache(source) as silent:
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
        except ImportError as error:
            raise InputError(
                f"source: the tokenizer of {source!r} wants a package that is not installed ({first_line(error)}); for "
                f"SentencePiece: pip install sentencepiece"
            ) from error
        except Exception as error:  # transformers raises OSError, ValueError, KeyError, ... with messages of many lines
            why = f"not in the local cache; {silent}" if silent else first_line(error)
            raise InputError(
                f"source: {source!r} has no tokenizer ({why}); save it beside the model (tokenizer.json)"
            ) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # so transformers answers where there is no vocabulary
        raise InputError(f"source: {source!r} has no tokenizer; save it beside the model (tokenizer.json)")
    if tokenizer.pad_token_id is None:
        raise InputError(f"source: the tokenizer of {source!r} has no padding token; use the one of its model")
    vocab_size = architecture.vocab_size
    if len(tokenizer) > vocab_size:
        raise InputError(
            f"source: the tokenizer of {source!r} has {len(tokenizer):,} tokens, its network embeds {vocab_size:,}; "
            f"use the one that belongs to these weights"
        )
    most = min(tokenizer.model_max_length, longest_text(architecture) or MOST_TOKENS)
    least = tokenizer.num_special_tokens_to_add() + 1
    if most < least:
        raise InputError(f"source: {source!r} reads texts of {most} tokens; accepted: {least} or more")
    return Reader(tokenizer, most, fills_up)
