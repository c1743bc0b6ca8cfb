"""Evaluation by retrieval."""

import math
from dataclasses import dataclass, field
from typing import Literal

from tcl.config.checks import check_at_least, require
from tcl.config.free import AS_BEFORE


@dataclass
class EvalConfig:
    """Retrieval on data.val, from the embeddings and re-ranked by ITM."""

    every: int = 1000
    """Optimiser steps between evaluations, >= 1; the last step always evaluates."""
    batch_size: int = 64
    """Images or texts per forward pass, >= 1."""
    max_images: int | None = 1000
    """Evaluate on the first this many images, >= 1; None: on all."""
    rerank_k: int = 16
    """Candidates per query that ITM re-ranks, >= 0 (0: embeddings only)."""
    rerank_similarity: float = field(default=0.0, metadata=AS_BEFORE)
    """What the cosine over the temperature counts beside ITM's logit in the re-ranking, >= 0. 0: nothing, as published.
    Negatives that are drawn because they are similar (objective.itm_hardness) leave ITM nothing to learn from the
    similarity. 0.5 gives it back: the log odds of a match are twice its logit."""
    rescore: Literal["none", "inverted_softmax", "sinkhorn", "dsl", "qb_norm"] = field(
        default="none", metadata=AS_BEFORE
    )
    """Take from each candidate what it gets from many queries, before the best are chosen (tcl.search.rescorings);
    metrics get the prefix rescored_, and beside them stand those of the embeddings as they are."""
    rescore_bank: str | None = field(default=None, metadata=AS_BEFORE)
    """Shards (as data.val) whose images and captions are those many queries; none that are evaluated. None: the
    evaluated queries themselves, and the prefix is transductive_: no system that ranks one query at a time could."""
    rescore_temperature: float = field(default=0.05, metadata=AS_BEFORE)
    """By which re-scoring divides cosines, > 0. Choose it, and whether to re-score at all, on data of its own."""
    rescore_iterations: int = field(default=5, metadata=AS_BEFORE)
    """Of Sinkhorn, >= 1."""
    pass_tokens: int = 8192
    """Text tokens in one pass of the re-ranking, padding included, >= 1: bounds its memory."""
    image_cache_gib: float = 4.0
    """Image tokens kept in memory between the two stages, per process, >= 0; images beyond are encoded again."""


def check_eval(config: EvalConfig) -> None:
    """Sizes of an evaluation by retrieval."""
    check_at_least(1, {f"eval.{name}": getattr(config, name) for name in ("every", "batch_size", "max_images")})
    check_at_least(1, {"eval.pass_tokens": config.pass_tokens, "eval.rescore_iterations": config.rescore_iterations})
    temperature, bank = config.rescore_temperature, config.rescore_bank
    require(0 < temperature < math.inf, "eval.rescore_temperature", temperature, "a number > 0")
    rescores = config.rescore != "none"
    require(rescores or bank is None, "eval.rescore_bank", bank, "null, unless eval.rescore is given")
    check_at_least(
        0, {f"eval.{name}": getattr(config, name) for name in ("rerank_k", "rerank_similarity", "image_cache_gib")}
    )
