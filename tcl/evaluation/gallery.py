"""What a retrieval evaluation found, for a person (`gallery.html`) and for programs (`retrieval.jsonl`)."""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from tcl.config.checks import require
from tcl.data.images.decode_image import decode_image
from tcl.evaluation.page import Picture, picture_of, render, write_text
from tcl.search.candidates import Ranked

SHOWN = 5
"""Candidates of a query, and right answers where none of the candidates is one."""
THUMBNAIL_SIDE = 160
"""Pixels of the longer side; smaller images stay as they are."""
DIRECTIONS = {"i2t": "image to text", "t2i": "text to image"}


@dataclass(frozen=True)
class RankedQuery:
    """What one image or caption was answered with."""

    query: int
    """Index of the image (image to text) or of the caption (text to image)."""
    candidates: list[int]
    """Indices of the best answers, best first; at least SHOWN where there are so many."""
    scores: list[float]
    """Of the candidates."""
    rank: int
    """Of the first right answer among all, >= 1."""


def ranked_queries(ranked: Ranked) -> list[RankedQuery]:
    """All queries of one direction, in their order."""
    rows = zip(ranked.candidates.tolist(), ranked.scores.tolist(), ranked.ranks.tolist(), strict=True)
    return [RankedQuery(query, *row) for query, row in enumerate(rows)]


def write_results(
    path: Path,
    image_queries: Sequence[RankedQuery],
    text_queries: Sequence[RankedQuery],
    image_ids: Sequence[str],
    caption_ids: Sequence[str],
) -> None:
    """One line of JSON for every query, first image to text, then text to image, in the order given.

    Keys: direction ('image_to_text' or 'text_to_image'), query (id), rank, candidates (ids, best first), scores.
    InputError: the file cannot be written.
    """
    lines = []
    for direction, queries, own_ids, answer_ids in (
        ("image_to_text", image_queries, image_ids, caption_ids),
        ("text_to_image", text_queries, caption_ids, image_ids),
    ):
        for ranked in queries:
            line = {
                "direction": direction,
                "query": own_ids[ranked.query],
                "rank": ranked.rank,
                "candidates": [answer_ids[candidate] for candidate in ranked.candidates],
                "scores": ranked.scores,
            }
            lines.append(json.dumps(line) + "\n")
    write_text(path, "".join(lines))


def write_gallery(
    path: Path,
    *,
    images: Sequence[bytes],
    captions: Sequence[str],
    relevant: set[tuple[int, int]],
    image_queries: Sequence[RankedQuery],
    text_queries: Sequence[RankedQuery],
    recalls: dict[str, float],
    max_queries: int = 100,
) -> None:
    """One page that needs nothing else: recalls, then of both directions the worst queries with their best answers.

    images: encoded, known to decode. relevant: the right (image, caption) pairs. recalls: percent, named as
    rank_metrics names them, perhaps with a prefix; other names have a line of their own. max_queries: per
    direction, >= 1. InputError: an impossible max_queries, a file that cannot be written.
    """
    require(max_queries >= 1, "max_queries", max_queries, "an integer >= 1")
    captions_of, images_of = defaultdict(list), defaultdict(list)
    for image, caption in sorted(relevant):
        captions_of[image].append(caption)
        images_of[caption].append(image)
    of_images = _section(image_queries, captions_of, max_queries)
    of_texts = _section(text_queries, images_of, max_queries)
    shown = {query.index for query in of_images.queries}
    shown |= {answer.index for query in of_texts.queries for answer in query.answers}
    rows = _recall_rows(recalls)
    page = render(
        "gallery.html.jinja",
        thumbnails={image: _thumbnail(images[image]) for image in sorted(shown)},
        rows=rows,
        columns=list(dict.fromkeys(column for row in rows.values() for column in row)),
        image_section=of_images,
        text_section=of_texts,
        captions=captions,
    )
    write_text(path, page)


@dataclass(frozen=True)
class _Answer:
    index: int
    """Of the caption (image to text) or image (text to image)."""
    kind: Literal["hit", "miss", "right"]
    """Whether a candidate is right; 'right': one of the right answers where no shown candidate is."""
    score: float | None = None
    """Of a candidate."""


@dataclass(frozen=True)
class _Query:
    index: int
    rank: int
    answers: list[_Answer]


@dataclass(frozen=True)
class _Section:
    queries: list[_Query]
    """The worst, worst first."""
    total: int


def _section(queries: Sequence[RankedQuery], right_of: dict[int, list[int]], count: int) -> _Section:
    worst = sorted(queries, key=lambda ranked: (-ranked.rank, ranked.query))[:count]
    shown = [_Query(ranked.query, ranked.rank, _answers(ranked, right_of[ranked.query])) for ranked in worst]
    return _Section(shown, len(queries))


def _answers(ranked: RankedQuery, right: list[int]) -> list[_Answer]:
    best = list(zip(ranked.candidates, ranked.scores, strict=True))[:SHOWN]
    answers = [_Answer(index, "hit" if index in right else "miss", score) for index, score in best]
    found = any(answer.kind == "hit" for answer in answers)
    return answers if found else answers + [_Answer(index, "right") for index in right[:SHOWN]]


def _thumbnail(content: bytes) -> Picture:
    # Whoever read the images has applied data.max_pixels already.
    image = Image.fromarray(decode_image(content, max_pixels=sys.maxsize, min_side=THUMBNAIL_SIDE))
    image.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BICUBIC)
    return picture_of(image)


def _recall_rows(recalls: dict[str, float]) -> dict[str, dict[str, float]]:
    """{"image to text": {"R@1": 50.0, ...}, "r_mean": {"value": 41.2}}"""
    rows: dict[str, dict[str, float]] = defaultdict(dict)
    for name, value in recalls.items():
        if found := re.fullmatch(r"(.*?)_?(i2t|t2i)_r(\d+)", name):
            prefix, direction, k = found.groups()
            rows[DIRECTIONS[direction] + (f", {prefix}" if prefix else "")][f"R@{k}"] = value
        else:
            rows[name]["value"] = value
    return rows
