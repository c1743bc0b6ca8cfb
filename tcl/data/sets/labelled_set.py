"""Images with a class to evaluate on, read from their shards whenever they are needed: there may be millions."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from tcl.config.data import DataConfig
from tcl.data.feed.worker_process import decoded, prepare_worker
from tcl.data.images.decode_image import decode_image, image_bytes
from tcl.data.shards.bad_sample import BadSample, reading
from tcl.data.shards.list_shards import open_shards
from tcl.data.shards.read_shard import RawSample, read_samples
from tcl.data.texts.label import LabelReader


@dataclass
class LabelledImages:
    """Some images of a set."""

    pixels: Tensor | None = None
    """[B, 3, H, W]; None: there are none."""
    labels: list[int] = field(default_factory=list)
    """Places in the list of classes."""
    keys: list[str] = field(default_factory=list)
    """'<shard name>/<sample key>'."""
    places: list[int] = field(default_factory=list)
    """Among all samples of the set, usable or not."""
    bad: Counter[str] = field(default_factory=Counter)
    """Samples (and stray tar entries) that were met meanwhile and could not be used, by cause."""


class LabelledSet:
    """The samples of config.val's shards, or the first max_samples (>= 1) of them, with a label out of `classes`.

    transform: decoded image -> pixels. InputError: as `open_shards`.
    """

    def __init__(
        self,
        config: DataConfig,
        classes: list[str],
        transform: Callable[[np.ndarray], Tensor],
        max_samples: int | None = None,
    ):
        self.config = config
        self.classes = classes
        self.transform = transform
        self.label_of = LabelReader(classes)
        self.shards = open_shards(config.val)
        count = sum(shard.size for shard in self.shards)
        self.samples = count if max_samples is None else min(count, max_samples)

    def batches(self, batch_size: int, rank: int, processes: int) -> Iterator[LabelledImages]:
        """The share of process `rank` of `processes`, at most batch_size (>= 1) at a time, read and decoded by
        config.workers. InputError: a worker died."""
        loader = DataLoader(
            _Share(self, batch_size, rank, processes),
            batch_size=None,
            num_workers=self.config.workers if self.samples > batch_size * processes else 0,
            worker_init_fn=prepare_worker,
        )
        yield from decoded(loader, workers="data.workers", batch_size="eval.batch_size")

    def read(self, sample: RawSample) -> tuple[int, Tensor]:
        """Its label and pixels [3, H, W]. BadSample: unusable."""
        with reading():
            fields = sample.usable()
            label = self.label_of(fields)
            return label, self.transform(decode_image(image_bytes(fields), max_pixels=self.config.max_pixels))

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
    def __init__(self, whole: LabelledSet, batch_size: int, rank: int, processes: int):
        self.whole, self.batch_size, self.rank, self.processes = whole, batch_size, rank, processes

    def __iter__(self) -> Iterator[LabelledImages]:
        worker = get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        part, parts = self.rank * workers + number, self.processes * workers
        samples = self.whole.samples
        found, pixels = LabelledImages(), []
        for place, sample in self.whole.raw(samples * part // parts, samples * (part + 1) // parts):
            found.bad.update(cause for cause, _ in sample.notices)
            try:
                label, image = self.whole.read(sample)
            except BadSample as problem:
                found.bad[str(problem)] += 1
                continue
            pixels.append(image)
            found.labels.append(label)
            found.keys.append(sample.key)
            found.places.append(place)
            if len(pixels) == self.batch_size:
                yield replace(found, pixels=torch.stack(pixels))
                found, pixels = LabelledImages(), []
        yield replace(found, pixels=torch.stack(pixels)) if pixels else found
