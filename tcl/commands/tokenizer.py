"""Train a tokenizer on the captions, or the questions and answers, of shards.

    tcl tokenizer --shards 'data/train/*.tar' --out data/tokenizer

The folder it writes is what --model.text.tokenizer takes: a lower-casing WordPiece vocabulary, as BERT's. The same
shards always give the same one.
"""

import argparse
from pathlib import Path

from tcl.commands.parser import command_parser
from tcl.shown import say


def parser() -> argparse.ArgumentParser:
    """What `tcl tokenizer --help` lists."""
    options = command_parser("tcl tokenizer", __doc__)
    options.add_argument("--shards", required=True, metavar="PATTERN", help="a glob, a brace range or a URL")
    options.add_argument("--out", type=Path, required=True, metavar="DIR", help="a tokenizer that is there is replaced")
    options.add_argument("--vocab_size", type=int, default=8000, metavar="N", help="tokens at most (default 8000)")
    options.add_argument(
        "--max_texts", type=int, default=1_000_000, metavar="N", help="to learn from (default 1000000)"
    )
    options.add_argument("--max_words", type=int, default=30, metavar="N", help="read of a text (default 30)")
    return options


def main(arguments: list[str]) -> None:
    """InputError: no text in the shards, an impossible number, an OUT that is something else or cannot be written."""
    given = vars(parser().parse_args(arguments))
    from tcl.data.texts.vocabulary import train_tokenizer

    say(train_tokenizer(**given))
