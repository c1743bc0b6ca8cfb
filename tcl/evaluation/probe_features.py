"""Features of labelled samples by an encoder that stays as it is, for a probe."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from tcl.data.batch import Batch, to_device
from tcl.data.sets.probe_set import ProbedSamples
from tcl.data.sets.streamed_set import StreamedSet
from tcl.data.shards.bad_sample import counted
from tcl.errors import InputError


@dataclass
class Features:
    """Views of N samples, one after the other in the order of their shards; all views of a sample are together."""

    rows: NDArray[np.float32]
    """[M, width], M >= N."""
    owners: NDArray[np.int64]
    """[M], 0 .. N - 1: of which sample each row is a view."""
    labels: NDArray[np.int64]
    """[N], places in the list of classes."""
    folds: NDArray[np.str_]
    """[N], names; empty ones, where there are no folds."""
    keys: list[str]
    """[N], '<shard name>/<sample key>'."""
    bad: Counter[str]
    """Samples that could not be used, by cause."""

    def of(self, samples: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Rows of the `samples` [N] that are True, and the labels of these rows."""
        chosen = samples[self.owners]
        return self.rows[chosen], self.labels[self.owners[chosen]]


@torch.no_grad()
def read_features(
    accelerator: Accelerator,
    encoder: nn.Module,
    views: Sequence[StreamedSet[ProbedSamples]],
    features: Callable[[Batch], Tensor],
    batch_size: int,
    field: str,
) -> Features:
    """Called on every process, which share the samples; all get the result.

    views: of the same samples, one at least. features: a batch on the device -> [B, width], by `encoder`, which is in
    eval mode meanwhile. batch_size >= 1. InputError on all processes, naming the config field `field`: no usable
    sample.
    """
    was_training = encoder.training
    encoder.eval()
    own, bad = [], Counter[str]()
    try:
        for number, view in enumerate(views):
            found, unusable = _read_view(accelerator, view, features, batch_size)
            own += [(place, number, *one) for place, *one in found]
            bad |= sum(gather_object([unusable]), Counter())  # of all views the same, or nearly
    finally:
        encoder.train(was_training)
    every = sorted(gather_object(own), key=lambda row: row[:2])  # by place and view, of which no two are the same
    if not every:
        causes = counted(bad) if bad else "the shards are empty"
        raise InputError(f"{field}: {views[0].config.val!r} holds no usable labelled sample: {causes}")
    places, _, keys, labels, folds, rows = zip(*every, strict=True)
    _, first, owners = np.unique(places, return_index=True, return_inverse=True)
    return Features(
        np.stack(rows), owners, np.array(labels)[first], np.array(folds)[first], [keys[i] for i in first], bad
    )


def _read_view(
    accelerator: Accelerator, view: StreamedSet[ProbedSamples], features: Callable[[Batch], Tensor], batch_size: int
) -> tuple[list[tuple], Counter[str]]:
    """Of this process' share: (place, key, label, fold, row) of each sample, and how many could not be used."""
    rank, processes = accelerator.process_index, accelerator.num_processes
    found, bad = [], Counter[str]()
    with tqdm(unit="sample", desc="reading features", leave=False, disable=None if rank == 0 else True) as bar:
        for some in view.batches(batch_size, rank, processes):
            bad += some.bad
            if some.examples is None:
                continue
            with accelerator.autocast():
                rows = features(to_device(some.examples.batch, accelerator.device)).float().cpu().numpy()
            found += zip(some.places, some.keys, some.examples.labels, some.examples.folds, rows, strict=True)
            bar.update(len(some.keys))
    return found, bad
