"""How a set of what is judged is filled from shards: samples in their order, and what cannot be used counted."""

from collections import Counter
from collections.abc import Callable

from tcl.data.shards.bad_sample import BadSample, reading
from tcl.data.shards.list_shards import list_shards
from tcl.data.shards.read_shard import RawSample, read_samples


def add_samples(
    pattern: str,
    add: Callable[[RawSample, str], None],
    bad: Counter[str],
    *,
    is_full: Callable[[], bool],
    max_sample_bytes: int,
) -> None:
    """Give every sample of the shards that `pattern` names to `add`, with its shard's URL, until the set is full.

    add: BadSample: nothing of it was added. bad: gets the causes, and notices of samples that are good all the same.
    InputError: no such shards.
    """
    for url in list_shards(pattern):
        for sample in read_samples(url, max_sample_bytes=max_sample_bytes):
            if is_full():
                return
            bad.update(cause for cause, _ in sample.notices)
            try:
                with reading():
                    add(sample, url)
            except BadSample as problem:
                bad[str(problem)] += 1


def commonest(bad: Counter[str]) -> str:
    """Why nothing could be used, in a message."""
    return ", ".join(f"{cause} {count:,}" for cause, count in bad.most_common(5)) or "the shards are empty"
