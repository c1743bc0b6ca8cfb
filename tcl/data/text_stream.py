"""The texts of a file or of shards, one after the other, cleaned as in training."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tcl.data.captions import clean_caption
from tcl.data.decode import EMPTY_CAPTION, NOT_UTF8, BadSample, clean_captions
from tcl.data.read_shard import read_samples
from tcl.data.shard_ids import shard_labels
from tcl.errors import InputError


class CleanText(NamedTuple):
    """A text that is cleaned and cut, or the problem that kept it from being read."""

    id: str
    text: str
    problem: str | None = None


def texts_of_file(path: Path, max_words: int) -> Iterator[CleanText]:
    """Lines of a UTF-8 file, cut to max_words (>= 1); ids are line numbers from 1. InputError, at once: unreadable."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(
            f"texts: {path} cannot be read ({error.strerror}); give a file with a text per line"
        ) from error

    def lines() -> Iterator[CleanText]:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    text = clean_caption(line.decode("utf-8-sig"), max_words)
                except UnicodeDecodeError:
                    yield CleanText(str(number), "", NOT_UTF8)
                else:
                    yield CleanText(str(number), text, None if text else EMPTY_CAPTION)

    return lines()


def texts_of_shards(urls: Sequence[str], max_words: int) -> Iterator[CleanText]:
    """Captions of samples, cut to max_words (>= 1); ids are '<shard name>/<sample key>#<number from 0>'."""
    labels = shard_labels(urls)
    for url in urls:
        for sample in read_samples(url):
            name = f"{labels[url]}/{sample.key.partition('/')[2]}"
            try:
                if sample.problem is not None:
                    raise BadSample(sample.problem)
                for i, text in enumerate(clean_captions(sample.fields, max_words)):
                    yield CleanText(f"{name}#{i}", text)
            except BadSample as cause:
                yield CleanText(name, "", str(cause))
