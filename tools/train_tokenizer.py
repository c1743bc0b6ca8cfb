"""Train a WordPiece vocabulary on the captions of webdataset shards.

    python tools/train_tokenizer.py --shards 'data/train/*.tar' --out data/tokenizer [--vocab_size 8000]

The folder it writes is what model.text.tokenizer takes.
"""

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import jsonargparse
from tokenizers import BertWordPieceTokenizer
from transformers import PreTrainedTokenizerFast

from tcl.data.decode import BadSample, clean_captions
from tcl.data.read_shard import read_samples
from tcl.data.shards import list_shards
from tcl.errors import InputError

SPECIAL_TOKENS = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}


def read_captions(pattern: str, max_words: int) -> Iterator[str]:
    """Every usable caption of the shards that `pattern` names, cleaned."""
    for url in list_shards(pattern):
        for sample in read_samples(url):
            if sample.problem is None:
                try:
                    yield from clean_captions(sample.fields, max_words)
                except BadSample:
                    continue


def train_tokenizer(
    shards: str, out: Path, vocab_size: int = 8000, max_captions: int = 1_000_000, max_words: int = 30
) -> None:
    """Write a lower-casing BERT tokenizer to the folder OUT, replacing a tokenizer that is there.

    shards: glob, brace range or URL. vocab_size: tokens at most, >= 100 (few captions give fewer). max_captions: how
    many captions to learn from, >= 1. InputError: no caption found, an impossible value, an OUT that is no tokenizer.
    """
    if vocab_size < 100:
        raise InputError(f"vocab_size: {vocab_size} is not possible; accepted: an integer >= 100")
    if out.exists() and not (out / "tokenizer.json").is_file():
        raise InputError(f"out: {out} exists and is not a tokenizer; remove it or name another folder")
    texts = list(islice(read_captions(shards, max_words), max_captions))
    if not texts:
        raise InputError(f"shards: {shards!r} holds no caption; samples need KEY.txt or KEY.json with captions")
    tokenizer = BertWordPieceTokenizer(lowercase=True)
    tokenizer.train_from_iterator(
        texts, vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS.values()), show_progress=False
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, **SPECIAL_TOKENS)
    wrapped.save_pretrained(out)
    print(f"{out}: {len(wrapped)} tokens from {len(texts):,} captions")


if __name__ == "__main__":
    parser = jsonargparse.ArgumentParser(description="Train a WordPiece vocabulary on the captions of shards.")
    parser.add_function_arguments(train_tokenizer)
    arguments = parser.parse_args()
    try:
        train_tokenizer(**vars(arguments))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
