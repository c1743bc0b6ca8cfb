"""Samples to evaluate on, read from their shards whenever they are needed: there may be millions."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from tcl.config.data import DataConfig
from tcl.data.feed.worker_process import decoded, prepare_worker
from tcl.data.shards.bad_sample import BadSample, reading
from tcl.data.shards.list_shards import open_shards
from tcl.data.shards.read_shard import RawSample, read_samples

Examples = TypeVar("Examples")


@dataclass
class Streamed(Generic[Examples]):
    """Some samples of a set."""

    examples: Examples | None = None
    """As the set's `collate` makes them; None: there are none."""
    keys: list[str] = field(default_factory=list)
    """'<shard name>/<sample key>'."""
    places: list[int] = field(default_factory=list)
    """Among all samples of the set, usable or not."""
    bad: Counter[str] = field(default_factory=Counter)
    """Samples (and stray tar entries) that were met meanwhile and could not be used, by cause."""


class StreamedSet(Generic[Examples]):
    """The samples of config.val's shards, or the first max_samples (>= 1) of them.

    read: a sample's bytes by extension and its key -> an example, or BadSample; collate: several examples -> what
    `batches` gives of them. Both run in worker processes. InputError: as `open_shards`.
    """

    def __init__(
        self,
        config: DataConfig,
        read: Callable[[dict[str, bytes], str], Any],
        collate: Callable[[list], Examples],
        max_samples: int | None = None,
    ):
        self.config = config
        self.read = read
        self.collate = collate
        self.shards = open_shards(config.val)
        count = sum(shard.size for shard in self.shards)
        self.samples = count if max_samples is None else min(count, max_samples)

    def batches(self, batch_size: int, rank: int, processes: int) -> Iterator[Streamed[Examples]]:
        """The share of process `rank` of `processes`, at most batch_size (>= 1) at a time, read and decoded by
        config.workers. InputError: a worker died."""
        loader = DataLoader(
            _Share(self, batch_size, rank, processes),
            batch_size=None,
            num_workers=self.config.workers if self.samples > batch_size * processes else 0,
            worker_init_fn=prepare_worker,
        )
        yield from decoded(loader, workers="data.workers", batch_size="eval.batch_size")

    def raw(self, first: int, last: int) -> Iterator[tuple[int, RawSample]]:
        """Samples first .. last - 1 with their places."""
        start = 0
        for shard in self.shards:
            begin, end = max(first - start, 0), min(last - start, shard.size)
            if begin < end:
                limit = self.config.max_sample_bytes
                for sample in read_samples(shard.url, begin, end, size=shard.size, max_sample_bytes=limit):
                    yield start + sample.index, sample
            start += shard.size


class _Share(IterableDataset):
    def __init__(self, whole: StreamedSet, batch_size: int, rank: int, processes: int):
        self.whole, self.batch_size, self.rank, self.processes = whole, batch_size, rank, processes

    def __iter__(self) -> Iterator[Streamed]:
        worker = get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        part, parts = self.rank * workers + number, self.processes * workers
        samples = self.whole.samples
        found, examples = Streamed(), []
        for place, sample in self.whole.raw(samples * part // parts, samples * (part + 1) // parts):
            found.bad.update(cause for cause, _ in sample.notices)
            try:
                with reading():
                    example = self.whole.read(sample.usable(), sample.key)
            except BadSample as problem:
                found.bad[str(problem)] += 1
                continue
            examples.append(example)
            found.keys.append(sample.key)
            found.places.append(place)
            if len(examples) == self.batch_size:
                found.examples = self.whole.collate(examples)
                yield found
                found, examples = Streamed(), []
        found.examples = self.whole.collate(examples) if examples else None
        yield found
