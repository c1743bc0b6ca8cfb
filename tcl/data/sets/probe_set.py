"""Labelled samples of which a probe reads features: several views of each, and the folds that they belong to."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Protocol

from tcl.config.data import DataConfig
from tcl.data.batch import Batch
from tcl.data.seeding import seed_of
from tcl.data.sets.streamed_set import StreamedSet
from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.label import LabelReader
from tcl.data.texts.sample_texts import json_of


class View(NamedTuple):
    """Which view of every sample."""

    place: float = 0.5
    """Of a clip in its video or sound, from the beginning, 0, to the end, 1."""
    drawn: int | None = None
    """The number of one that is drawn and augmented, as in training; None: it is taken whole."""


class PlacedReader(Protocol):
    """Reads samples: `tcl.data.feed.clip_reader.ClipReader`, `tcl.data.feed.picture_reader.PictureReader`."""

    def read(self, fields: dict[str, bytes], key: str, rng: random.Random | None, place: float) -> Any:
        """A sample's bytes by extension -> an example, of a place of its own choice where `rng` draws it. BadSample:
        unusable."""

    def batch(self, examples: list, seed: int) -> Batch:
        """A batch of examples."""


@dataclass
class ProbedSamples:
    """Some samples of a set."""

    batch: Batch
    labels: list[int]
    """Places in the list of classes."""
    folds: list[str]
    """Names; empty ones, where there are no folds."""


def probe_set(
    data: DataConfig, shards: str, reader: PlacedReader, classes: list[str], fold: str | None, view: View, seed: int
) -> StreamedSet[ProbedSamples]:
    """The samples of `shards` with a label out of `classes` and, where `fold` names a field of their JSON, the fold
    that it says. InputError: as `open_shards`."""
    read = partial(
        _read, reader=reader, label_of=LabelReader(classes), fold_of=partial(_fold, name=fold), view=view, seed=seed
    )
    return StreamedSet(replace(data, val=shards), read, partial(_collate, reader=reader))


def _read(
    fields: dict[str, bytes],
    key: str,
    *,
    reader: PlacedReader,
    label_of: LabelReader,
    fold_of: Callable[[dict[str, bytes]], str],
    view: View,
    seed: int,
) -> tuple[int, str, Any]:
    """BadSample: unusable, without a label or a fold."""
    label, fold = label_of(fields), fold_of(fields)
    rng = None if view.drawn is None else random.Random(seed_of("probe", seed, key, view.drawn))
    return label, fold, reader.read(fields, key, rng, view.place)


def _fold(fields: dict[str, bytes], *, name: str | None) -> str:
    if name is None:
        return ""
    fold = json_of(fields).get(name)
    if fold is None:
        raise BadSample(f"missing {name!r}, its fold")
    if isinstance(fold, bool) or not isinstance(fold, int | str) or fold == "":
        raise BadSample(f"{name!r}, its fold, is no whole number and no name")
    return str(fold)


def _collate(examples: list[tuple[int, str, Any]], *, reader: PlacedReader) -> ProbedSamples:
    labels, folds, read = zip(*examples, strict=True)
    return ProbedSamples(reader.batch(list(read), seed=0), list(labels), list(folds))
