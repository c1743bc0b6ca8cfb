"""A WordPiece vocabulary, learned from the captions, questions and answers, hypotheses or sentences of shards.

The folder that is written is what model.text.tokenizer takes. The same shards always give the same vocabulary.
"""

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tokenizers import BertWordPieceTokenizer
from transformers import BertTokenizer

from tcl.config.checks import require
from tcl.data.shards.bad_sample import BadSample, reading
from tcl.data.shards.list_shards import list_shards
from tcl.data.shards.read_shard import read_samples
from tcl.data.texts.question import question_of
from tcl.data.texts.sample_texts import clean_captions
from tcl.data.texts.statement import statement_texts
from tcl.errors import InputError
from tcl.whole_file import partial_of

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
"""Ids 0 to 4."""
TOKENIZER_FILES = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
}
"""What a folder may hold that a new tokenizer replaces: an export holds a tokenizer too, and much else."""


def read_texts(pattern: str, max_words: int) -> Iterator[str]:
    """Every usable text of the shards that `pattern` names, cleaned."""
    for url in list_shards(pattern):
        for sample in read_samples(url):
            if sample.problem is None:
                with contextlib.suppress(BadSample), reading():
                    yield from clean_captions(sample.fields, max_words)
                with contextlib.suppress(BadSample), reading():
                    asked = question_of(sample.fields, sample.key, max_words)
                    yield from (asked.question, *(answer.lower() for answer in asked.answers))
                with contextlib.suppress(BadSample), reading():
                    yield from statement_texts(sample.fields, max_words)


def train_tokenizer(
    shards: str, out: Path, vocab_size: int = 8000, max_texts: int = 1_000_000, max_words: int = 30
) -> str:
    """Write a lower-casing BERT tokenizer to the folder `out`, replacing a tokenizer that is there; says what it is.

    shards: glob, brace range or URL. vocab_size: tokens at most, >= 100 (few texts give fewer). max_texts: how many
    texts to learn from, >= 1. max_words: words kept of one that is no answer, >= 1.
    InputError: no text found, an impossible value, an `out` that is no tokenizer or cannot be written.
    """
    require(vocab_size >= 100, "vocab_size", vocab_size, "an integer >= 100")
    require(max_texts >= 1, "max_texts", max_texts, "an integer >= 1")
    require(max_words >= 1, "max_words", max_words, "an integer >= 1")
    if out.exists() and not _is_a_tokenizer(out):
        raise InputError(f"out: {out} exists and is not a tokenizer alone; remove it or name another folder")
    texts = list(islice(read_texts(shards, max_words), max_texts))
    if not texts:
        raise InputError(f"shards: {shards!r} holds no text; samples need KEY.txt or KEY.json with texts")
    tokenizer = BertTokenizer(vocab=learn_vocabulary(texts, vocab_size))
    try:
        save(tokenizer, out)
    except OSError as error:
        raise InputError(f"out: {out} cannot be written ({error.strerror}); name another folder") from error
    return f"{out}: {len(tokenizer)} tokens from {len(texts):,} texts"


def _is_a_tokenizer(folder: Path) -> bool:
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return "tokenizer.json" in held and held <= TOKENIZER_FILES


def learn_vocabulary(texts: list[str], vocab_size: int) -> dict[str, int]:
    """Token -> id, at most vocab_size (>= 100) of them, SPECIAL_TOKENS first.

    The trainer numbers the pieces ##c in the order of a hash table, another one in each run, and breaks ties by number.
    Naming all pieces of one character beforehand, as if they were special, fixes both.
    """
    learner = BertWordPieceTokenizer(lowercase=True)
    counts = Counter()
    for text in texts:
        counts.update(learner.normalize(text))
    by_count = sorted((c for c in counts if not c.isspace()), key=lambda c: (-counts[c], c))
    # A character costs two tokens, c and ##c, and the trainer does not count them against vocab_size.
    alphabet = by_count[: min(1000, (vocab_size - len(SPECIAL_TOKENS)) // 2)]
    learner.train_from_iterator(
        texts,
        vocab_size=vocab_size,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        special_tokens=[*SPECIAL_TOKENS, *alphabet, *(f"##{c}" for c in alphabet)],
        show_progress=False,
    )
    return learner.get_vocab(with_added_tokens=True)


def save(tokenizer: BertTokenizer, out: Path) -> None:
    """Write the folder `out` as a whole: one that exists is complete, even after an interrupt."""
    partial = partial_of(out)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    tokenizer.save_pretrained(partial)
    if out.exists():
        shutil.rmtree(out)
    partial.rename(out)
