"""What runs in a worker process: shards -> visits -> decoded examples -> whole batches."""

import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from tcl.config.data import DataConfig
from tcl.data.batch import Batch, map_tensors
from tcl.data.feed.loader_state import LoaderState
from tcl.data.feed.sample_order import Leftovers, Part, Source, Visit, WorkerPosition, worker_stream
from tcl.data.seeding import seed_of
from tcl.data.shards.bad_sample import BadSample, reading


@dataclass
class Loaded:
    """What a worker hands out: a batch, the position after it, and the (cause, key) of what was bad on the way.

    The batch is None after as many bad samples as a batch holds: a worker that finds nothing usable is heard of.
    """

    batch: Batch | None
    worker: int
    position: WorkerPosition
    bad: list[tuple[str, str]]
    epochs: Counter[int]
    """How many examples of the batch come from which epoch of their source."""

    def pin_memory(self) -> "Loaded":
        return replace(self, batch=map_tensors(self.batch, Tensor.pin_memory)) if self.batch is not None else self


class SampleReader(Protocol):
    """What a kind of data (pairs, questions) is made of: samples become examples, examples a batch."""

    def read(self, fields: dict[str, bytes], key: str, rng: random.Random) -> object:
        """A sample's bytes by extension -> an example; everything random comes from `rng`. BadSample: unusable."""

    def batch(self, examples: list, seed: int) -> Batch:
        """A batch of `examples`; everything random comes from `seed`."""


class BatchError(Exception):
    """Samples that were read well did not become a batch: a fault of the reader's, not of theirs."""


class BatchStream(IterableDataset):
    """The batches of one rank; in a worker process, those of that worker."""

    def __init__(
        self,
        sources: list[Source],
        data: DataConfig,
        *,
        reader: SampleReader,
        batch_size: int,
        seed: int,
        rank: int,
        world_size: int,
        start: LoaderState,
        leftovers: Leftovers,
    ):
        self.sources = sources
        self.data = data
        self.reader = reader
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start = start
        self.leftovers = leftovers
        self.reading = torch.full((len(start.workers), 3), -1).share_memory_()
        """[workers, 3]: process id, source and shard that each worker is at, written by it and read by the trainer."""

    def __iter__(self) -> Iterator[Loaded]:
        process = get_worker_info()
        workers = len(self.start.workers)
        worker = process.id if process else 0
        part = Part(self.rank * workers + worker, self.world_size * workers)
        self.reading[worker, 0] = os.getpid()

        def on_shard(source: int, shard: int) -> None:
            self.reading[worker, 1:] = torch.tensor([source, shard])

        examples: list = []
        keys: list[str] = []
        bad: list[tuple[str, str]] = []
        epochs: Counter[int] = Counter()
        batch_start = self.start.workers[worker]
        visits = worker_stream(
            self.sources,
            part,
            seed=self.seed,
            shuffle_buffer=self.data.shuffle_buffer,
            start=batch_start,
            leftovers=self.leftovers,
            on_shard=on_shard,
            max_sample_bytes=self.data.max_sample_bytes,
        )
        for visit, position in visits:
            bad += visit.sample.notices
            try:
                examples.append(self._read(visit))
                keys.append(visit.sample.key)
                epochs[visit.epoch] += 1
            except BadSample as problem:
                bad.append((str(problem), visit.sample.key))
            if len(examples) == self.batch_size:
                batch = self._batch(examples, keys, seed_of(self.seed, "mlm", part.part, batch_start.draws))
                yield Loaded(batch, worker, position, bad, epochs)
                examples, keys, bad, epochs, batch_start = [], [], [], Counter(), position
            elif len(bad) >= self.batch_size:
                yield Loaded(None, worker, position, bad, Counter())
                bad = []

    def shard_being_read(self, worker: int) -> str | None:
        """The shard that `worker` opened last."""
        _, source, shard = self.reading[worker].tolist()
        return self.sources[source].shards[shard].url if shard >= 0 else None

    def _read(self, visit: Visit) -> object:
        sample = visit.sample
        seed = seed_of(self.seed, "visit", visit.source, visit.epoch, visit.shard, sample.index)
        with reading():
            return self.reader.read(sample.usable(), sample.key, random.Random(seed))

    def _batch(self, examples: list, keys: list[str], seed: int) -> Batch:
        try:
            return self.reader.batch(examples, seed)
        except Exception as error:
            raise BatchError(f"no batch could be made of the samples {', '.join(keys)}: {error!r}") from error
