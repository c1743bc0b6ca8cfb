"""Image-text shards -> shards in which the tokens of a frozen image tower stand in place of the images.

Shard i of the source becomes 000000i.tar with the same samples in the same order, less those whose image cannot be
used: KEY.tokens (tcl.data.tokens.token_sample) in place of the image, other files as they were. tokens.json says whose
tokens they are, sizes.json counts the samples of each shard, report.json lists what was skipped and why.

The folder is complete or not there. Until then what is finished lies in OUT.partial, and the same command goes on after
the last whole shard.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info
from tqdm import tqdm

from tcl.config.checks import check_at_least
from tcl.config.data import AugmentConfig, DataConfig
from tcl.config.model import ImageEncoderConfig
from tcl.data.feed.worker_process import decoded, prepare_worker
from tcl.data.images.augment import Augment
from tcl.data.images.decode_image import decode_image, image_bytes
from tcl.data.images.image_format import IMAGE_EXTENSIONS, TOKENS_EXTENSION
from tcl.data.images.pixel_views import content_hash
from tcl.data.shards.bad_sample import BadSample, reading
from tcl.data.shards.list_shards import list_shards
from tcl.data.shards.out_folder import check_out
from tcl.data.shards.read_shard import RawSample, is_remote, read_samples
from tcl.data.shards.unfinished_shards import NewSample, ShardsOfShards, UnfinishedShards
from tcl.data.tokens.description import TokenShards, write_description
from tcl.data.tokens.stored_tokens import Storage, StoredTokens, store_tokens
from tcl.data.tokens.token_sample import SampleTokens, pack_tokens
from tcl.encoders.image_encoder import ImageEncoder
from tcl.encoders.tower import tower_of
from tcl.errors import InputError
from tcl.inference.hardware import Hardware


class TokenRecipe(NamedTuple):
    """A frozen tower, where it runs, and how its tokens are kept."""

    encoder: ImageEncoder
    config: ImageEncoderConfig
    """From which it was built."""
    hardware: Hardware
    augment: AugmentConfig
    """How views are drawn, and how many: `views`, >= 1."""
    storage: Storage
    batch_size: int
    """Views in one forward pass, >= 1."""


def write_token_shards(
    shards: str,
    out: Path,
    tower: TokenRecipe,
    *,
    max_pixels: int = DataConfig.max_pixels,
    workers: int = 2,
    overwrite: bool = False,
) -> ShardsOfShards:
    """Write the shards to the folder `out`.

    shards: a glob, a brace range or a URL. max_pixels: larger images are skipped. workers: processes that decode, >= 0.
    overwrite: replace an `out` that is there. InputError: an impossible value, no shards, an `out` that is in use or
    cannot be written, tokens that cannot be stored, no usable sample.
    """
    least = {"batch_size": tower.batch_size, "views": tower.augment.views, "max_pixels": max_pixels}
    check_at_least(1, least)
    check_at_least(0, {"workers": workers})
    urls, out = list_shards(shards), Path(out).resolve()
    check_out(out, tuple(Path(url) for url in urls if not is_remote(url)), overwrite)
    try:
        described = _describe(tower)
        partly = UnfinishedShards(out, urls, asdict(described))
        todo = [(i, url) for i, url in enumerate(urls) if not partly.has(i)]
        stream = _Stream(todo, Augment(described.augment, tower.config.image_size), max_pixels)
        with tqdm(total=len(urls), initial=len(urls) - len(todo), unit=" shards") as bar:
            for number, samples in groupby(_prepared(stream, workers), key=lambda sample: sample.shard):
                partly.write(number, _encoded(samples, tower, described.tower.weights))
                bar.update(number + 1 - bar.n)
        write_description(described, partly.folder)
        return partly.finish()
    except OSError as error:
        raise InputError(f"out: {out} cannot be written ({error}); name a folder with space that is yours") from error


def _describe(tower: TokenRecipe) -> TokenShards:
    """InputError: the network cannot be run."""
    side = tower.config.image_size
    features = _features(torch.zeros(1, 3, side, side, dtype=torch.uint8), tower)
    augment = replace(tower.augment, on_device=False)  # there views differ by rounding
    return TokenShards(tower_of(tower.encoder, tower.config), *features.shape[1:], tower.storage, augment)


class _Prepared(NamedTuple):
    """A sample of shard `shard`, its views [V, 3, H, W] uint8; or the problem."""

    shard: int
    key: str
    """'<shard name>/<sample key>'."""
    others: dict[str, bytes]
    """Its files but the image."""
    views: Tensor | None
    identity: int
    problem: str | None


class _Stream(IterableDataset):
    """The samples of shards (number, url), in order; of n workers each decodes every n-th, and DataLoader puts them in
    order again."""

    def __init__(self, shards: list[tuple[int, str]], augment: Augment, max_pixels: int):
        self.shards, self.augment, self.max_pixels = shards, augment, max_pixels

    def __iter__(self) -> Iterator[_Prepared]:
        worker = get_worker_info()
        own, of = (0, 1) if worker is None else (worker.id, worker.num_workers)
        count = 0
        for number, url in self.shards:
            for sample in read_samples(url):
                if count % of == own:
                    yield self._prepare(number, sample)
                count += 1

    def _prepare(self, number: int, sample: RawSample) -> _Prepared:
        try:
            with reading():
                content = image_bytes(sample.usable())
                pixels = decode_image(content, max_pixels=self.max_pixels, min_side=self.augment.min_side)
                views = [self.augment.numbered(pixels, k).pixels for k in range(self.augment.config.views)]
        except BadSample as cause:
            return _Prepared(number, sample.key, {}, None, 0, str(cause))
        others = {name: value for name, value in sample.fields.items() if name not in IMAGE_EXTENSIONS}
        return _Prepared(number, sample.key, others, torch.stack(views), content_hash(content), None)


def _prepared(stream: _Stream, workers: int) -> Iterator[_Prepared]:
    """InputError: a worker died."""
    loader = DataLoader(
        stream, batch_size=None, num_workers=workers, collate_fn=_as_it_is, worker_init_fn=prepare_worker
    )
    yield from decoded(loader, workers="workers", batch_size="views")


def _as_it_is(sample: _Prepared) -> _Prepared:
    return sample


def _encoded(samples: Iterator[_Prepared], tower: TokenRecipe, weights: str) -> Iterator[NewSample]:
    """weights: the hash of the tower's."""
    at_once = max(1, tower.batch_size // tower.augment.views)
    waiting: list[_Prepared] = []
    for sample in samples:
        waiting.append(sample)
        if sum(one.views is not None for one in waiting) == at_once:
            yield from _encode(waiting, tower, weights)
            waiting = []
    yield from _encode(waiting, tower, weights)


def _encode(samples: list[_Prepared], tower: TokenRecipe, weights: str) -> Iterator[NewSample]:
    good = [sample.views for sample in samples if sample.views is not None]
    tokens = iter(_stored(torch.cat(good), tower) if good else ())
    for sample in samples:
        if sample.views is None:
            yield NewSample(sample.key, {}, sample.problem)
        else:
            file = pack_tokens(SampleTokens(next(tokens), sample.identity), weights)
            yield NewSample(sample.key, {TOKENS_EXTENSION: file} | sample.others)


def _stored(views: Tensor, tower: TokenRecipe) -> list[StoredTokens]:
    """Of each image, whose V views stand together, values [V, N, W] and scales [V, N]."""
    tokens = store_tokens(_features(views, tower), tower.storage)
    values = tokens.values.cpu().split(tower.augment.views)
    scales = [None] * len(values) if tokens.scales is None else tokens.scales.cpu().split(tower.augment.views)
    return [StoredTokens(*parts) for parts in zip(values, scales, strict=True)]


@torch.inference_mode()
def _features(views: Tensor, tower: TokenRecipe) -> Tensor:
    """uint8 [n, 3, H, W] -> fp32 [n, N, W], in batches of one size: then tokens depend on their own view alone."""
    found = []
    for some in views.split(tower.batch_size):
        filled = torch.cat([some, some[-1:].expand(tower.batch_size - len(some), -1, -1, -1)])
        with tower.hardware.autocast():
            features = tower.encoder.features(tower.encoder.prepare(filled.to(tower.hardware.device)))
        found.append(features[: len(some)].float())
    return torch.cat(found)
