"""What runs in a worker process: shards -> visits -> decoded pairs -> whole batches."""

import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info
from transformers import PreTrainedTokenizerBase

from tcl.config import DataConfig
from tcl.data.augment import Augment
from tcl.data.batch import Batch
from tcl.data.decode import EMPTY_CAPTION, BadSample, clean_captions, decode_image, image_bytes
from tcl.data.loader_state import LoaderState
from tcl.data.masking import mask_tokens
from tcl.data.seeding import seed_of
from tcl.data.stream import Leftovers, Part, Source, Visit, WorkerPosition, worker_stream
from tcl.data.text import tokenize


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
    """How many pairs of the batch come from which epoch of their source."""

    def pin_memory(self) -> "Loaded":
        return replace(self, batch=self.batch.pin_memory()) if self.batch is not None else self


class BatchStream(IterableDataset):
    """The batches of one rank; in a worker process, those of that worker."""

    def __init__(
        self,
        sources: list[Source],
        data: DataConfig,
        *,
        augment: Augment,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int,
        mlm_probability: float,
        seed: int,
        rank: int,
        world_size: int,
        start: LoaderState,
        leftovers: Leftovers,
    ):
        self.sources = sources
        self.data = data
        self.augment = augment
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.mlm_probability = mlm_probability
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

        pairs: list[Pair] = []
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
        )
        for visit, position in visits:
            bad += visit.sample.notices
            try:
                pairs.append(self._decode(visit))
                epochs[visit.epoch] += 1
            except BadSample as problem:
                bad.append((str(problem), visit.sample.key))
            if len(pairs) == self.batch_size:
                yield Loaded(self._batch(pairs, part, batch_start), worker, position, bad, epochs)
                pairs, bad, epochs, batch_start = [], [], Counter(), position
            elif len(bad) >= self.batch_size:
                yield Loaded(None, worker, position, bad, Counter())
                bad = []

    def shard_being_read(self, worker: int) -> str | None:
        """The shard that `worker` opened last."""
        _, source, shard = self.reading[worker].tolist()
        return self.sources[source].shards[shard].url if shard >= 0 else None

    def _decode(self, visit: Visit) -> "Pair":
        sample = visit.sample
        if sample.problem is not None:
            raise BadSample(sample.problem)
        captions = clean_captions(sample.fields, self.data.max_words)
        image = decode_image(
            image_bytes(sample.fields), max_pixels=self.data.max_pixels, min_side=self.augment.min_side
        )
        rng = random.Random(seed_of(self.seed, "visit", visit.source, visit.epoch, visit.shard, sample.index))
        caption = rng.choice(captions)
        if not self.tokenizer.tokenize(caption):  # e.g. nothing but control characters
            raise BadSample(EMPTY_CAPTION)
        return Pair(self.augment(image, rng), self.augment(image, rng), caption, sample.key)

    def _batch(self, pairs: list["Pair"], part: Part, start: WorkerPosition) -> Batch:
        captions = [pair.caption for pair in pairs]
        input_ids, attention_mask = tokenize(self.tokenizer, captions, self.data.max_tokens)
        masked = mask_tokens(
            input_ids,
            attention_mask,
            probability=self.mlm_probability,
            mask_id=self.tokenizer.mask_token_id,
            vocab_size=len(self.tokenizer),
            generator=torch.Generator().manual_seed(seed_of(self.seed, "mlm", part.part, start.draws)),
        )
        return Batch(
            image=torch.stack([pair.image for pair in pairs]),
            image_aug=torch.stack([pair.image_aug for pair in pairs]),
            input_ids=input_ids,
            attention_mask=attention_mask,
            masked_ids=masked.input_ids,
            mask_positions=masked.positions,
            mask_labels=masked.labels,
            keys=[pair.key for pair in pairs],
        )


@dataclass
class Pair:
    """Two views of an image, [3, H, W] each, and one of its captions, cleaned."""

    image: Tensor
    image_aug: Tensor
    caption: str
    key: str
