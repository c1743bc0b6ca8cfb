"""What the samples of several shards are called, so that no two share a name."""

from collections import Counter
from collections.abc import Sequence

from tcl.data.shards.read_shard import shard_name
from tcl.data.texts.captions import spelt_out


def shard_labels(urls: Sequence[str]) -> dict[str, str]:
    """The name of each shard, or its whole path or URL where another one has the same name."""
    counts = Counter(map(shard_name, urls))
    return {url: shard_name(url) if counts[shard_name(url)] == 1 else spelt_out(url) for url in urls}
