"""What a gallery shows of each query: the answers of both stages side by side, and where the right one is."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tcl.evaluation.ranked_queries import RankedQuery

SHOWN = 5
"""Answers of a query in each stage."""


@dataclass(frozen=True)
class Direction:
    """All queries of one direction, in their order, as each stage answered them."""

    embedding: Sequence[RankedQuery]
    """Scores are cosines, or what a re-scoring made of them."""
    matched: Sequence[RankedQuery] | None
    """Scores are probabilities, 0 to 1; None: nothing re-ranks the candidates."""
    right: dict[int, dict[int, float | None]]
    """Of each query its right answers with their cosines; None: the first stage is not ordered by cosines."""

    @property
    def cosines(self) -> bool:
        """Are the scores of the first stage cosines?"""
        return all(cosine is not None for of_query in self.right.values() for cosine in of_query.values())


@dataclass(frozen=True)
class Answer:
    """One answer in a stage."""

    index: int
    """Of the caption (image to text) or image (text to image)."""
    kind: Literal["hit", "miss", "right"]
    """Whether a candidate is right; 'right': the best of the right answers, where none that is shown is one."""
    score: float | None
    """Of the stage; None: it has not seen this pair."""
    rank: int


@dataclass(frozen=True)
class Stage:
    """What one stage made of a query."""

    rank: int
    """Of the first right answer."""
    answers: list[Answer]
    seen: int
    """Candidates that it has ordered."""


@dataclass(frozen=True)
class Query:
    """A query with the answers of its one or two stages."""

    index: int
    embedding: Stage
    matched: Stage | None

    @property
    def hit(self) -> bool:
        """Is the first answer of the last stage right?"""
        return (self.matched or self.embedding).rank == 1

    @property
    def moved(self) -> Literal["better", "worse", "same"]:
        """What re-ranking did to the first right answer."""
        before, after = self.embedding.rank, (self.matched or self.embedding).rank
        return "same" if before == after else "better" if after < before else "worse"


def right_answers(
    pairs: Sequence[tuple[int, int]], similarities: Sequence[float] | None
) -> tuple[dict[int, dict[int, float | None]], dict[int, dict[int, float | None]]]:
    """Right (image, caption) pairs, with their cosines where they are known -> captions of images, images of captions,
    as `Direction.right`."""
    of_images, of_captions = defaultdict(dict), defaultdict(dict)
    for (image, caption), cosine in zip(pairs, similarities or [None] * len(pairs), strict=True):
        of_images[image][caption] = of_captions[caption][image] = cosine
    return of_images, of_captions


def chosen_queries(direction: Direction, count: int) -> list[Query]:
    """At most `count` (>= 1) queries: the worst misses, worst first, then hits from all over the set; half of each
    where there are as many."""
    last = direction.matched or direction.embedding
    misses = sorted((query for query in last if query.rank > 1), key=lambda query: (-query.rank, query.query))
    hits = [query for query in last if query.rank == 1]
    misses = misses[: max((count + 1) // 2, count - len(hits))]
    few = min(count - len(misses), len(hits))
    hits = [hits[i * len(hits) // few] for i in range(few)]
    place = {query.query: i for i, query in enumerate(last)}
    return [_query(direction, place[query.query]) for query in misses + hits]


def _query(direction: Direction, place: int) -> Query:
    first = direction.embedding[place]
    right = direction.right[first.query]
    embedding = _stage(first, right, right)
    if direction.matched is None:
        return Query(first.query, embedding, None)
    matched = direction.matched[place]
    seen = dict(zip(matched.candidates, matched.scores, strict=True))
    return Query(first.query, embedding, _stage(matched, right, seen))


def _stage(ranked: RankedQuery, right: dict[int, float | None], scores: dict[int, float | None]) -> Stage:
    """scores: those that the stage gave, as far as they are known."""
    best = list(zip(ranked.candidates, ranked.scores, strict=True))[:SHOWN]
    answers = [
        Answer(index, "hit" if index in right else "miss", score, rank) for rank, (index, score) in enumerate(best, 1)
    ]
    if not any(answer.kind == "hit" for answer in answers):
        known = [index for index in right if scores.get(index) is not None]
        index = max(known, key=scores.get) if known else min(right)
        answers.append(Answer(index, "right", scores.get(index), ranked.rank))
    return Stage(ranked.rank, answers, len(ranked.candidates))
