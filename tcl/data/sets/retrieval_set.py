"""Evaluation data for retrieval: images, captions, and which belongs to which."""

from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from tcl.config.data import DataConfig
from tcl.data.images.decode_image import decode_image, image_bytes
from tcl.data.sets.add_samples import add_samples, commonest
from tcl.data.shards.bad_sample import BadSample
from tcl.data.shards.read_shard import RawSample
from tcl.data.texts.captions import clean_caption, spelt_out
from tcl.data.texts.sample_texts import EMPTY_CAPTION, NOT_TEXT, clean_captions, json_of
from tcl.errors import InputError

OTHER_IMAGE = "image_id of another image"
OTHER_CAPTION = "caption_id of another caption"
IDS_DO_NOT_FIT = "not as many caption_ids as captions"

Kept = TypeVar("Kept", bound=Hashable)
"""What a set keeps of an image."""


@dataclass
class RetrievalSet:
    """I images and C captions, in the order of the shards; every one of them belongs to at least one of the others."""

    images: list[Hashable] = field(default_factory=list)
    """[I], what is kept of them, and known to decode: of `load_retrieval_set` encoded images, bytes; others' say."""
    captions: list[str] = field(default_factory=list)
    """[C], cleaned."""
    pairs: list[tuple[int, int]] = field(default_factory=list)
    """(image, caption) indices, no pair twice."""
    image_ids: list[str] = field(default_factory=list)
    """[I], "image_id" of the sample's JSON or '<shard name>/<sample key>'; unique."""
    caption_ids: list[str] = field(default_factory=list)
    """[C], from "caption_ids" of the sample's JSON or '<image id>#<number>'; unique."""
    bad: Counter[str] = field(default_factory=Counter)
    """Samples (and stray tar entries) that could not be used, by cause."""


def load_retrieval_set(
    pattern: str,
    *,
    field: str = "data.val",
    max_images: int | None = None,
    max_words: int,
    max_pixels: int,
    max_sample_bytes: int = DataConfig.max_sample_bytes,
) -> RetrievalSet:
    """The first max_images (>= 1; default: all) usable images of the shards that `pattern` names, in their order.

    Samples with the same "image_id" are one image with the captions of all; captions with the same id are one caption
    of several images. Captions are cleaned and cut to max_words (>= 1); images of more than max_pixels and
    samples of more than max_sample_bytes are skipped. field: whose value `pattern` is.
    InputError: no such shards, or no usable image in them.
    """
    return load_pairs(
        pattern,
        image_bytes,
        partial(decode_image, max_pixels=max_pixels),
        field=field,
        max_images=max_images,
        max_words=max_words,
        max_sample_bytes=max_sample_bytes,
    )


def load_pairs(
    pattern: str,
    take: Callable[[dict[str, bytes]], Kept],
    decode: Callable[[Kept], object],
    *,
    field: str,
    max_images: int | None,
    max_words: int,
    max_sample_bytes: int,
) -> RetrievalSet:
    """As `load_retrieval_set`, of whatever `take` finds in a sample's bytes by extension. Both raise BadSample: there
    is none, or it does not decode."""
    found, index = RetrievalSet(), _Index()
    add_samples(
        pattern,
        lambda sample, url: _add(found, index, sample, url, max_words, take, decode),
        found.bad,
        is_full=lambda: len(found.images) == max_images,
        max_sample_bytes=max_sample_bytes,
    )
    if not found.images:
        raise InputError(f"{field}: {pattern!r} holds no usable image-text pair: {commonest(found.bad)}")
    return found


@dataclass
class _Index:
    images: dict[str, int] = field(default_factory=dict)
    """Index by image id."""
    captions: dict[str, int] = field(default_factory=dict)
    """Index by caption id."""
    numbered: Counter[str] = field(default_factory=Counter)
    """Captions without an id of their own, by image id."""
    pairs: set[tuple[int, int]] = field(default_factory=set)


def _add(
    found: RetrievalSet,
    index: _Index,
    sample: RawSample,
    url: str,
    max_words: int,
    take: Callable[[dict[str, bytes]], Kept],
    decode: Callable[[Kept], object],
) -> None:
    """BadSample: nothing of it was added."""
    content, said = take(sample.usable()), json_of(sample.fields)
    # Shards of two folders may have the same names, and so the same keys.
    image_id = sample.key if sample.key not in index.images else f"{spelt_out(url)}:{sample.key}"
    if said.get("image_id") is not None:
        image_id = spelt_out(str(said["image_id"]))
    captions = _captions(sample.fields, said.get("caption_ids"), max_words)
    if any(found.captions[index.captions[name]] != text for name, text in captions if name in index.captions):
        raise BadSample(OTHER_CAPTION)
    if image_id not in index.images:
        decode(content)
        index.images[image_id] = len(found.images)
        found.images.append(content)
        found.image_ids.append(image_id)
    image = index.images[image_id]
    if found.images[image] != content:
        raise BadSample(OTHER_IMAGE)
    for name, text in captions:
        if name is None:
            name = f"{image_id}#{index.numbered[image_id]}"
            index.numbered[image_id] += 1
        if name not in index.captions:
            index.captions[name] = len(found.captions)
            found.captions.append(text)
            found.caption_ids.append(name)
        pair = image, index.captions[name]
        if pair not in index.pairs:
            index.pairs.add(pair)
            found.pairs.append(pair)


def _captions(fields: dict[str, bytes], names: object, max_words: int) -> list[tuple[str | None, str]]:
    """(id or None, cleaned text) of all captions of a sample, at least one. BadSample: none, or ids that do not fit."""
    if names is None:
        return [(None, caption) for caption in clean_captions(fields, max_words)]
    texts = json_of(fields).get("captions")
    if not isinstance(names, list) or not isinstance(texts, list) or len(names) != len(texts):
        raise BadSample(IDS_DO_NOT_FIT)
    if not all(isinstance(text, str | None) for text in texts):
        raise BadSample(NOT_TEXT)
    pairs = zip(names, texts, strict=True)
    captions = [(spelt_out(str(name)), clean_caption(text or "", max_words)) for name, text in pairs]
    captions = [(name, text) for name, text in captions if text]
    if not captions:
        raise BadSample(EMPTY_CAPTION)
    return captions
