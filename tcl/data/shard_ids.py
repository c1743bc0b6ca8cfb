"""What the samples of several shards are called, so that no two share a name."""

from collections import Counter
from collections.abc import Sequence

from tcl.data.captions import spelt_out
from tcl.data.read_shard import shard_name


def shard_labels(urls: Sequence[str]) -> dict[str, str]:
    """The name of each shard, or its whole path or URL where another one has the same name."""
    counts = Counter(map(shard_name, urls))
    return {url: shard_name(url) if counts[shard_name(url)] == 1 else spelt_out(url) for url in urls}
