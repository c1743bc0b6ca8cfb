"""What a retrieval evaluation found, for a person to look through (`gallery.html`)."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tcl.config.checks import require
from tcl.data.images.decode_image import decode_image
from tcl.evaluation.gallery_queries import Direction, Query, chosen_queries
from tcl.evaluation.metric_rows import metric_rows
from tcl.evaluation.page import Picture, picture_of, render, write_text
from tcl.evaluation.recall import CUTS

THUMBNAIL_SIDE = 160
"""Pixels of the longer side; smaller images stay as they are."""


@dataclass(frozen=True)
class _Section:
    queries: list[Query]
    total: int
    hits: int


@dataclass(frozen=True)
class _Shown:
    """An image in the page."""

    picture: Picture
    id: str
    says: str
    """What it shows, for those who cannot see it: its id and a caption."""


def decoded(image: bytes) -> np.ndarray:
    """An encoded image, as small as thumbnails allow: [H, W, 3] uint8."""
    # Whoever read the images has applied data.max_pixels already.
    return decode_image(image, max_pixels=sys.maxsize, min_side=THUMBNAIL_SIDE)


def write_gallery(
    path: Path,
    *,
    images: Sequence[Any],
    captions: Sequence[str],
    image_ids: Sequence[str],
    of_images: Direction,
    of_texts: Direction,
    metrics: dict[str, float],
    facts: dict[str, str],
    max_queries: int = 100,
    look: Callable[[Any], np.ndarray] = decoded,
) -> None:
    """One page that needs nothing else: recalls and median ranks, then of both directions the worst misses and some
    hits, each with the best answers by embedding beside those that are re-ranked.

    images: encoded, known to decode, or whatever `look` makes pixels [H, W, 3] uint8 of. metrics: named as
    `rank_metrics` names them, those of later stages with their prefix. facts: what else the page says of the
    evaluation, by label. max_queries: per direction, >= 1. InputError: an impossible max_queries, a file that cannot be
    written.
    """
    require(max_queries >= 1, "max_queries", max_queries, "an integer >= 1")
    image_section, text_section = (_section(direction, max_queries) for direction in (of_images, of_texts))
    shown = {query.index for query in image_section.queries}
    for query in text_section.queries:
        for stage in (query.embedding, query.matched):
            shown |= {answer.index for answer in stage.answers} if stage else set()
    page = render(
        "gallery.html.jinja",
        shown={image: _shown(image, look(images[image]), captions, image_ids, of_images) for image in sorted(shown)},
        cuts=CUTS,
        rows=metric_rows(metrics),
        facts=facts,
        image_section=image_section,
        text_section=text_section,
        reranked=of_images.matched is not None,
        first_scores="cosine" if of_images.cosines else "score",
        captions=captions,
    )
    write_text(path, page)


def _section(direction: Direction, count: int) -> _Section:
    last = direction.matched or direction.embedding
    return _Section(chosen_queries(direction, count), len(last), sum(query.rank == 1 for query in last))


def _shown(
    image: int, seen: np.ndarray, captions: Sequence[str], image_ids: Sequence[str], of_images: Direction
) -> _Shown:
    pixels = Image.fromarray(seen)
    pixels.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BICUBIC)
    says = f"{image_ids[image]}: {captions[min(of_images.right[image])]}"
    return _Shown(picture_of(pixels), image_ids[image], says)
