"""The texts of a file or of shards, one after the other, cleaned as in training."""

import io
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tcl.data.shards.bad_sample import BadSample, reading
from tcl.data.shards.list_shards import shard_labels
from tcl.data.shards.read_shard import read_samples
from tcl.data.shards.shard_bytes import open_file
from tcl.data.texts.captions import clean_caption
from tcl.data.texts.sample_texts import EMPTY_CAPTION, MAX_TEXT_BYTES, clean_captions, text_of
from tcl.errors import InputError


class CleanText(NamedTuple):
    """A text that is cleaned and cut, or the problem that kept it from being read."""

    id: str
    text: str
    problem: str | None = None


def texts_of_file(path: Path, max_words: int) -> Iterator[CleanText]:
    """Lines of a UTF-8 file, cut to max_words (>= 1); ids are line numbers from 1. InputError, at once: unreadable."""
    try:
        open_file(path).close()
    except OSError as error:
        raise InputError(
            f"texts: {path} cannot be read ({error.strerror}); give a file with a text per line"
        ) from error

    def lines() -> Iterator[CleanText]:
        with io.BufferedReader(open_file(path)) as file:
            for number, line in enumerate(iter(partial(_read_line, file), b""), start=1):
                try:
                    with reading():
                        text = clean_caption(text_of(line), max_words)
                    yield CleanText(str(number), text, None if text else EMPTY_CAPTION)
                except BadSample as cause:
                    yield CleanText(str(number), "", str(cause))

    return lines()


def _read_line(file: io.BufferedReader) -> bytes:
    """The next line, of which no more is kept than shows that it is too long; b"" at the end."""
    line = piece = file.readline(MAX_TEXT_BYTES + 1)
    while len(piece) > MAX_TEXT_BYTES and not piece.endswith(b"\n"):
        piece = file.readline(MAX_TEXT_BYTES + 1)
    return line


def texts_of_shards(urls: Sequence[str], max_words: int) -> Iterator[CleanText]:
    """Captions of samples, cut to max_words (>= 1); ids are '<shard name>/<sample key>#<number from 0>'."""
    labels = shard_labels(urls)
    for url in urls:
        for sample in read_samples(url):
            name = f"{labels[url]}/{sample.key.partition('/')[2]}"
            try:
                with reading():
                    captions = clean_captions(sample.usable(), max_words)
                for i, text in enumerate(captions):
                    yield CleanText(f"{name}#{i}", text)
            except BadSample as cause:
                yield CleanText(name, "", str(cause))
