"""How a model of pairs is judged, in pre-training and after: by retrieval among pairs held out, with a page of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tcl.data.sets.retrieval_set import RetrievalSet
from tcl.data.shards.bad_sample import counted
from tcl.data.texts.tokenize import tokenize
from tcl.evaluation.evaluate_retrieval import RetrievalResult, cut_rerank_k, evaluate_retrieval
from tcl.evaluation.gallery import decoded, write_gallery
from tcl.evaluation.gallery_queries import Direction, right_answers
from tcl.evaluation.page import run_facts
from tcl.evaluation.ranked_queries import ranked_queries, write_results
from tcl.evaluation.rescoring_bank import rescore_both
from tcl.objectives.pair_objective import PairObjective
from tcl.search.candidates import Ranked
from tcl.tasks.task import Evaluation, RunConfig, Task


@dataclass(frozen=True)
class HeldOut:
    """What a model is judged on."""

    pairs: RetrievalSet
    bank: RetrievalSet | None
    """Whose images and captions re-score; None: none do."""
    decode: Callable[..., Iterator[Tensor]]
    """(images of a set, batches of indices, workers=...) -> pixels of each batch, as the image encoder takes them."""
    look: Callable[[Any], np.ndarray] = decoded
    """An image of a set -> pixels [H, W, 3] uint8 for people."""


def judge(task: Task, config: RunConfig, objective: PairObjective, held_out: HeldOut) -> None:
    """From now on `task` is evaluated by retrieval on `held_out`; config.eval is an EvalConfig."""
    pairs, rerank_k = held_out.pairs, config.eval.rerank_k if objective.matches else 0
    task.notices += cut_rerank_k(rerank_k, pairs, "eval.rerank_k")
    task.evaluate = partial(_evaluate, held_out=held_out, config=config, rerank_k=rerank_k, tokenizer=task.tokenizer)
    if pairs.bad:
        task.notices.append(f"data.val: skipped {counted(pairs.bad)}")


def _evaluate(
    accelerator: Accelerator,
    student: nn.Module,
    *,
    held_out: HeldOut,
    config: RunConfig,
    rerank_k: int,
    tokenizer: PreTrainedTokenizerBase,
) -> Evaluation:
    """The score is the mean of all recalls in percent, re-ranked where they are."""
    pairs, bank = held_out.pairs, held_out.bank
    tokenized = partial(tokenize, tokenizer, max_tokens=config.data.max_tokens)
    decode = partial(held_out.decode, workers=config.data.workers)
    rescore = None
    if config.eval.rescore != "none":
        of_bank = None if bank is None else partial(decode, bank.images)
        rescore = rescore_both(accelerator, student.encoders, bank, of_bank, tokenized, config=config.eval)
    found = evaluate_retrieval(
        accelerator,
        student,
        pairs,
        partial(decode, pairs.images),
        tokenized,
        config=replace(config.eval, rerank_k=rerank_k),
        rescore=rescore,
        rescored="transductive" if bank is None else "rescored",
    )
    shown = ", ".join(f"{name} {value:.1f}" for name, value in found.metrics.items() if "_r" in name)
    score = found.metrics["rerank_mean" if rerank_k > 0 else "mean"]
    line = f"retrieval of {len(pairs.images)} images x {len(pairs.captions)} texts: {shown}"
    write = partial(write_retrieval, found=found, pairs=pairs, config=config, look=held_out.look)
    return Evaluation(found.metrics, score, line, write)


def write_retrieval(
    folder: Path,
    *,
    found: RetrievalResult,
    pairs: RetrievalSet,
    config: RunConfig,
    look: Callable[[Any], np.ndarray] = decoded,
) -> None:
    """retrieval.jsonl, a line for each query, and gallery.html for a person to look through."""
    by_image, by_caption = ranked_queries(found.images), ranked_queries(found.captions)
    write_results(folder / "retrieval.jsonl", by_image, by_caption, pairs.image_ids, pairs.caption_ids)
    captions_of, images_of = right_answers(pairs.pairs, found.pair_similarities)
    facts = run_facts(config.output_dir, config.init, config.data.val, datetime.now())
    write_gallery(
        folder / "gallery.html",
        images=pairs.images,
        captions=pairs.captions,
        image_ids=pairs.image_ids,
        of_images=_direction(found.first_images, found.images, found.image_probabilities, captions_of),
        of_texts=_direction(found.first_captions, found.captions, found.caption_probabilities, images_of),
        metrics=found.metrics,
        facts=facts | {"Images": f"{len(pairs.images):,}", "Captions": f"{len(pairs.captions):,}"},
        look=look,
    )


def _direction(
    first: Ranked, best: Ranked, probabilities: Tensor | None, right: dict[int, dict[int, float | None]]
) -> Direction:
    matched = None if probabilities is None else ranked_queries(best, probabilities)
    return Direction(ranked_queries(first), matched, right)
