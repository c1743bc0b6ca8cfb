"""What each query of a retrieval evaluation was answered with, for programs (`retrieval.jsonl`)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tcl.evaluation.page import write_text
from tcl.search.candidates import Ranked


@dataclass(frozen=True)
class RankedQuery:
    """What one image or caption was answered with."""

    query: int
    """Index of the image (image to text) or of the caption (text to image)."""
    candidates: list[int]
    """Indices of the best answers, best first."""
    scores: list[float]
    """Of the candidates."""
    rank: int
    """Of the first right answer among all, >= 1."""


def ranked_queries(ranked: Ranked, scores: Tensor | None = None) -> list[RankedQuery]:
    """All queries of one direction, in their order. scores [Q, k]: in place of those that `ranked` is ordered by."""
    scores = ranked.scores if scores is None else scores
    rows = zip(ranked.candidates.tolist(), scores.tolist(), ranked.ranks.tolist(), strict=True)
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
