"""The commonest answers of VQA shards, as the closed list that config field answers.list names."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tcl.config.checks import require
from tcl.data.shards.bad_sample import BadSample, reading
from tcl.data.shards.list_shards import list_shards
from tcl.data.shards.read_shard import read_samples
from tcl.data.texts.question import question_of
from tcl.errors import InputError


def make_answer_list(shards: str, out: Path, size: int = 3128) -> str:
    """Write the `size` (>= 1) commonest answers, lower case, one a line, commonest first, equally common ones by name.

    An answer counts once for each annotator who gave it. Says how many of the given answers they cover. InputError: an
    impossible size, no answers, an `out` that cannot be written.
    """
    require(size >= 1, "size", size, "an integer >= 1")
    counts = Counter(_answers(shards))
    if not counts:
        raise InputError(f"shards: {shards!r} holds no answers; samples need KEY.json with a question and its answers")
    chosen = sorted(counts, key=lambda answer: (-counts[answer], answer))[:size]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("".join(f"{answer}\n" for answer in chosen), encoding="utf-8")
    except OSError as error:
        raise InputError(f"out: {out} cannot be written ({error.strerror}); name another file") from error
    covered = sum(counts[answer] for answer in chosen) / counts.total()
    return f"{out}: {len(chosen):,} of {len(counts):,} answers, {covered:.1%} of those given"


def _answers(pattern: str) -> Iterator[str]:
    for url in list_shards(pattern):
        for sample in read_samples(url):
            with contextlib.suppress(BadSample), reading():
                asked = question_of(sample.usable(), sample.key, max_words=50)
                yield from (" ".join(answer.lower().split()) for answer in asked.answers)
