"""The texts of a file or of shards, one after the other, cleaned as their reader wants them."""

import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tcl.data.shards.bad_sample import BadSample, reading
from tcl.data.shards.list_shards import shard_labels
from tcl.data.shards.read_shard import read_samples
from tcl.data.shards.shard_bytes import open_file
from tcl.data.texts.sample_texts import EMPTY_CAPTION, MAX_TEXT_BYTES, captions_of, text_of
from tcl.errors import InputError


class CleanText(NamedTuple):
    """A text that is cleaned, or the problem that kept it from being read."""

    id: str
    text: str
    problem: str | None = None


def texts_of_file(path: Path, clean: Callable[[str], str]) -> Iterator[CleanText]:
    """Lines of a UTF-8 file, cleaned; ids are line numbers from 1. InputError, at once: unreadable."""
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
                        text = clean(text_of(line))
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


def texts_of_shards(urls: Sequence[str], clean: Callable[[str], str]) -> Iterator[CleanText]:
    """Captions of samples, cleaned; ids are '<shard name>/<sample key>#<number from 0>'."""
    labels = shard_labels(urls)
    for url in urls:
        for sample in read_samples(url):
            name = f"{labels[url]}/{sample.key.partition('/')[2]}"
            try:
                with reading():
                    captions = captions_of(sample.usable(), clean)
                for i, text in enumerate(captions):
                    yield CleanText(f"{name}#{i}", text)
            except BadSample as cause:
                yield CleanText(name, "", str(cause))
