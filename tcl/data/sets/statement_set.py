"""Statements about images with a class to evaluate on (tcl.data.texts.statement)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tcl.config.data import DataConfig
from tcl.data.images.decode_image import decode_image, image_bytes
from tcl.data.sets.streamed_set import StreamedSet
from tcl.data.shards.bad_sample import BadSample
from tcl.data.texts.statement import Form, Statement, statement_of
from tcl.data.texts.tokenize import tokenize


@dataclass
class Told:
    """What is kept of a statement when its images have been seen."""

    text: str
    label: int
    identifier: str
    group: str | None


@dataclass
class Statements:
    """Some statements of a set."""

    told: list[Told]
    """[B]."""
    views: Tensor
    """[I, 3, H, W], each image once."""
    places: Tensor
    """[B, images of a statement] in 0 .. I - 1."""
    ids: Tensor
    """Tokens [B, L]."""
    mask: Tensor
    """[B, L], 1 token, 0 padding."""


def statement_set(
    config: DataConfig,
    form: Form,
    tokenizer: PreTrainedTokenizerBase,
    transform: Callable[[np.ndarray], Tensor],
    max_samples: int | None = None,
) -> StreamedSet[Statements]:
    """The samples of config.val's shards, or the first max_samples (>= 1) of them, of the given form.

    transform: decoded image -> pixels. InputError: as `open_shards`.
    """
    read = partial(
        _read, form=form, tokenizer=tokenizer, transform=transform, words=config.max_words, pixels=config.max_pixels
    )
    return StreamedSet(config, read, partial(_collate, tokenizer=tokenizer, tokens=config.max_tokens), max_samples)


Example = tuple[Statement, list[tuple[bytes, Tensor]]]
"""A statement, and of each of its images the file and the pixels."""


def _read(
    fields: dict[str, bytes],
    key: str,
    *,
    form: Form,
    tokenizer: PreTrainedTokenizerBase,
    transform: Callable[[np.ndarray], Tensor],
    words: int,
    pixels: int,
) -> Example:
    """BadSample: unusable."""
    statement = statement_of(fields, key, form, words)
    if not tokenizer.tokenize(statement.text):
        raise BadSample(f"missing {form.text}")
    files = [image_bytes(one) for one in statement.images]
    return statement, [(content, transform(decode_image(content, max_pixels=pixels))) for content in files]


def _collate(examples: list[Example], *, tokenizer: PreTrainedTokenizerBase, tokens: int) -> Statements:
    """Statements of one image stand together in most sets: it is encoded once for all of a batch."""
    views: dict[bytes, Tensor] = {}
    for _, images in examples:
        views |= {content: view for content, view in images if content not in views}
    place = {content: i for i, content in enumerate(views)}
    ids, mask = tokenize(tokenizer, [statement.text for statement, _ in examples], tokens)
    return Statements(
        [Told(one.text, one.label, one.identifier, one.group) for one, _ in examples],
        torch.stack(list(views.values())),
        torch.tensor([[place[content] for content, _ in images] for _, images in examples]),
        ids,
        mask,
    )
