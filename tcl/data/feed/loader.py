"""Shards -> batches for training: reading, decoding, augmentation and tokens in worker processes."""

import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
from torch.utils.data import DataLoader

from tcl.config.data import DataConfig, SourceConfig
from tcl.data.batch import Batch
from tcl.data.feed.bad_samples import BadSamples
from tcl.data.feed.batch_stream import BatchStream, Loaded, SampleReader
from tcl.data.feed.loader_state import DataIdentity, LoaderState, as_kept, changed_shard, identify
from tcl.data.feed.recut import recut, still_to_come
from tcl.data.feed.sample_order import Leftovers, Position, Source, WorkerPosition
from tcl.data.feed.worker_process import WorkerDied, death, end, next_batch, prepare_worker, start
from tcl.data.shards.list_shards import open_shards
from tcl.data.shards.read_shard import shard_name
from tcl.errors import InputError


def train_loader(
    data: DataConfig,
    *,
    reader: SampleReader,
    batch_size: int,
    seed: int,
    rank: int,
    world_size: int,
    start: Sequence[LoaderState] | None = None,
    pin_memory: bool = False,
    sources: list[Source] | None = None,
) -> "TrainLoader":
    """Batches of `batch_size` examples, as `reader` makes them, for ever, for one of `world_size` ranks.

    start: the states of all ranks of a checkpoint. With as many ranks and workers as then, exactly the batches come
    that would have come; with others the rest of the epoch comes once, in another order (`TrainLoader.notice`).
    sources: those of data.train, where they are open already.

    InputError: shards that are not there, mixed weights, a source with fewer samples than there are workers in all,
    a `start` of other data; while iterating: too much bad data, a dead worker.
    """
    sources = sources if sources is not None else open_sources(data.train)
    workers = max(1, data.workers)
    for config, source in zip(data.train, sources, strict=False):
        if source.samples < workers * world_size:
            name = config.shards if len(sources) > 1 else "all sources"
            raise InputError(
                f"data.train: {name} hold {source.samples} samples for {world_size} ranks x {workers} workers, which "
                f"need at least one each, {workers * world_size}; lower data.workers, or use more data"
            )
    identity = identify(sources, seed, data.shuffle_buffer, with_digests=rank == 0)
    state, leftovers, notice = _starting_point(
        sources, identity, start, rank=rank, world_size=world_size, workers=workers
    )
    # Batches are tokenised in worker processes, one thread each; the tokenizer library warns if this is left open.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    stream = BatchStream(
        sources,
        data,
        reader=reader,
        batch_size=batch_size,
        seed=seed,
        rank=rank,
        world_size=world_size,
        start=state,
        leftovers=leftovers,
    )
    return TrainLoader(stream, pin_memory, notice)


def _starting_point(
    sources: list[Source],
    data: DataIdentity,
    start: Sequence[LoaderState] | None,
    *,
    rank: int,
    world_size: int,
    workers: int,
) -> tuple[LoaderState, Leftovers, str | None]:
    """(this rank's state, what is left of epochs that a change of layout interrupted, a line about such a change)."""
    if start is None:
        fresh = WorkerPosition(tuple(Position() for _ in sources))
        return LoaderState((fresh,) * workers, next_worker=0, data=data), {}, None
    _require_same_data(start[0].data, data, sources)
    positions = [position for state in start for position in state.workers]
    leftovers = still_to_come(start[0].leftovers_by_epoch(), positions)
    there, here = (len(start), len(start[0].workers)), (world_size, workers)
    if there == here:
        return replace(start[rank], data=data, leftovers=as_kept(leftovers) if rank == 0 else ()), leftovers, None
    position, leftovers = recut(sources, positions, leftovers, seed=data.seed, shuffle_buffer=data.shuffle_buffer)
    state = LoaderState((position,) * workers, next_worker=0, data=data)
    if rank == 0:  # sums over the ranks stay what they were
        state = replace(
            state,
            leftovers=as_kept(leftovers),
            bad=sum((Counter(state.bad) for state in start), Counter()),
            bad_in_epoch=sum((Counter(state.bad_in_epoch) for state in start), Counter()),
            seen=sum((Counter(state.seen) for state in start), Counter()),
        )
    notice = (
        f"data: {here[0]} ranks x {here[1]} workers go on where {there[0]} x {there[1]} were; what is left of the "
        f"epoch is seen once, but the order of samples differs from here"
    )
    return state, leftovers, notice


def _require_same_data(there: DataIdentity, here: DataIdentity, sources: list[Source]) -> None:
    for name, field in (("seed", "seed"), ("data.shuffle_buffer", "shuffle_buffer")):
        if getattr(there, field) != getattr(here, field):
            raise InputError(
                f"{name}: {getattr(here, field)}, but the checkpoint's place in the data was reached with "
                f"{getattr(there, field)}; use that, or start a new run"
            )
    if there.sources != here.sources:
        sizes = [
            " + ".join(f"{shards} shards of {samples:,} samples" for shards, samples, _ in one.sources)
            for one in (there, here)
        ]
        raise InputError(
            f"data.train: names or sizes of the shards are not those of the checkpoint ({sizes[0]} there, {sizes[1]} "
            f"here); use the same shards in the same sources, or start a new run"
        )
    changed = changed_shard(there, here, sources)
    if changed is not None:
        raise InputError(
            f"data.train: {changed} is not the file that the checkpoint's run has read, though it holds as many "
            f"samples; put that one back, or start a new run"
        )


def open_sources(configs: list[SourceConfig]) -> list[Source]:
    """One pool of all shards where no source has a weight, else one source each. InputError: none, or mixed."""
    if not configs:
        raise InputError("data.train: no sources; give at least one, e.g. [{shards: data/*.tar}]")
    weights = [config.weight for config in configs]
    shards = [open_shards(config.shards) for config in configs]
    if all(weight is None for weight in weights):
        return [Source([shard for some in shards for shard in some])]
    if any(weight is None or weight <= 0 for weight in weights):
        raise InputError(f"data.train: weights {weights}; give every source a weight > 0, or none of them")
    return [Source(some, weight) for some, weight in zip(shards, weights, strict=True)]


class TrainLoader:
    """An endless iterator of batches that knows where it is (`state`) and what was unusable (`bad`)."""

    def __init__(self, stream: "BatchStream", pin_memory: bool, notice: str | None):
        self.samples = sum(source.samples for source in stream.sources)
        self.bad = BadSamples(stream.data.max_bad_fraction, self.samples)
        self.state = stream.start
        """The position after the last batch that was handed out."""
        self.notice = notice
        """A line for the person watching where the order of samples is not that of the checkpoint."""
        self.notices = [*([notice] if notice else []), *_repeats(stream)]
        """With it, lines about data too small for the batch."""
        self._stream = stream
        self._pin_memory = pin_memory
        self._loaded: Iterator[Loaded] | None = None
        self._waiting: list[deque[Loaded]] = []

    def __iter__(self) -> "TrainLoader":
        return self

    def read_ahead(self) -> None:
        """Wait until the next batch is there, and leave it there. InputError: as iterating."""
        if self._loaded is None:
            self._start()
        queue = self._waiting[self.state.next_worker]
        while all(loaded.batch is None for loaded in queue):
            self._receive()

    def __next__(self) -> Batch:
        # Workers take turns by batches: one that found only bad samples keeps its turn, and what others hand out
        # meanwhile waits. So the order of batches does not depend on when bad samples are reported.
        if self._loaded is None:
            self._start()
        queue = self._waiting[self.state.next_worker]
        bad: Counter[str] = Counter()
        while True:
            while not queue:
                self._receive()
            loaded = queue.popleft()
            bad.update(cause for cause, _ in loaded.bad)
            if loaded.batch is not None:
                bad.update(cause for cause, _ in loaded.batch.notices)
                break
        workers = list(self.state.workers)
        workers[loaded.worker] = loaded.position
        seen = Counter(self.state.seen) + loaded.epochs
        self.state = replace(
            self.state,
            workers=tuple(workers),
            next_worker=(loaded.worker + 1) % len(workers),
            bad=dict(Counter(self.state.bad) + bad),
            bad_in_epoch=dict(Counter(self.state.bad_in_epoch) + bad),
            seen={epoch: count for epoch, count in seen.items() if epoch > max(seen) - 3},
        )
        return loaded.batch

    @property
    def seen(self) -> dict[int, int]:
        """How many distinct samples this rank has handed out in each of the last passes (from 0) over the sources. No
        other rank handed out one of them: the sum over the ranks is that of distinct samples, too."""
        return self.state.seen

    def end_epoch(self) -> dict[str, int]:
        """The bad samples met since the last call, by cause. InputError: too many, where an epoch is too short for the
        window of `bad` to tell."""
        self.bad.end_epoch()
        report = self.state.bad_in_epoch
        self.state = replace(self.state, bad_in_epoch={})
        return report

    def close(self) -> None:
        """End the worker processes; iterating again starts new ones, which go on from `state`."""
        end(self._loaded)
        self._loaded = None
        self._stream.start = self.state

    def explain(self, error: Exception) -> InputError | None:
        """`error` as one line where a worker of this loader died or is late; None for any other error.

        Iterating does this itself. But the news that a worker was killed is a signal, and torch raises it wherever the
        main thread happens to be: whoever runs the training loop passes its RuntimeErrors through here.
        """
        stream = self._stream
        died = error if isinstance(error, WorkerDied) else death(self._loaded, error)
        if died is None and "DataLoader timed out" not in str(error):
            return None
        at = ", ".join(
            f"worker {worker} at {shard_name(stream.shard_being_read(worker) or 'the start')}"
            for worker in (died.workers if died else range(len(stream.reading)))
        )
        if died is None:
            return InputError(
                f"data.timeout: no batch within {stream.data.timeout} seconds (rank {stream.rank}, {at}); raise it if "
                f"the storage is slow, add data.workers, or look at that shard"
            )
        return InputError(
            f"data.workers: a loader process died (rank {stream.rank}, {at}): {died}. If memory or /dev/shm ran out, "
            f"lower data.workers, data.shuffle_buffer or train.batch_size"
        )

    def _start(self) -> None:
        data = self._stream.data
        loader = DataLoader(
            self._stream,
            batch_size=None,
            num_workers=data.workers,
            collate_fn=_as_it_is,
            worker_init_fn=prepare_worker,
            pin_memory=self._pin_memory,
            timeout=data.timeout if data.workers else 0,
        )
        self._waiting = [deque() for _ in self.state.workers]
        cv2.setNumThreads(1)  # a trainer that makes views itself has the cores for other work, and a fork loses threads
        self._loaded = start(loader)

    def _receive(self) -> None:
        loaded = self._load()
        self.bad.add(len(loaded.batch) if loaded.batch is not None else 0, loaded.bad)
        self._waiting[loaded.worker].append(loaded)

    def _load(self) -> Loaded:
        try:
            return next_batch(self._loaded)
        except (WorkerDied, RuntimeError) as error:
            raise self.explain(error) or error from error


def _repeats(stream: BatchStream) -> list[str]:
    """A line for each source of which a batch holds some samples more than once."""
    lines = []
    workers, total = len(stream.start.workers) * stream.world_size, sum(source.weight for source in stream.sources)
    for config, source in zip(stream.data.train, stream.sources, strict=False):
        share = stream.batch_size * source.weight / total
        if share > source.samples // workers:
            name = config.shards if len(stream.sources) > 1 else "all sources"
            lines.append(
                f"data.train: {name} hold {source.samples:,} samples for {workers} loader worker(s), of which a batch "
                f"of {stream.batch_size} takes about {share:.0f} from one: pairs repeat within a batch; use a smaller "
                f"train.batch_size{', less data.workers' if workers > 1 else ''}, a smaller weight, or more data"
            )
    return lines


def _as_it_is(loaded: Loaded) -> Loaded:
    return loaded
