"""Pre-training: pairs in, five losses, judged by zero-shot retrieval."""

from functools import partial
from pathlib import Path

from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedTokenizerBase

from tcl.config import PretrainConfig
from tcl.data.augment import Augment, eval_transform
from tcl.data.pair_reader import PairReader
from tcl.data.retrieval_set import RetrievalSet, load_retrieval_set
from tcl.data.text import load_tokenizer, tokenize
from tcl.evaluation.gallery import ranked_queries, write_gallery, write_results
from tcl.evaluation.retrieval import RetrievalResult, cut_rerank_k, evaluate_retrieval
from tcl.models.encoders import build_encoders
from tcl.models.momentum import Momentum
from tcl.models.tcl import TCLStudent
from tcl.models.text_encoder import check_length
from tcl.training.task import Evaluation, RunConfig, Task
from tcl.training.world import pair_activation_bytes


def build_pretraining(config: PretrainConfig, accelerator: Accelerator) -> Task:
    """What `tcl.training.run` runs for `tcl pretrain`. InputError: names that cannot be built, data.val without use."""
    tokenizer = load_tokenizer(config.model.text.tokenizer)
    encoders = build_encoders(config.model, len(tokenizer), tokenizer.pad_token_id)
    return pair_task(config, accelerator, TCLStudent(encoders, config.objective), tokenizer, with_ids=False)


def pair_task(
    config: RunConfig,
    accelerator: Accelerator,
    student: TCLStudent,
    tokenizer: PreTrainedTokenizerBase,
    *,
    with_ids: bool,
) -> Task:
    """Training of `student` on image-text pairs. with_ids: all pairs of an image are right for each other.

    config.objective is an ObjectiveConfig, config.eval an EvalConfig.
    """
    objective, encoders, data = config.objective, student.encoders, config.data
    check_length(data.max_tokens, encoders.text_encoder.bert.config, "data.max_tokens")
    augment = Augment(data.augment, config.model.image.image_size)
    notices = [f"negatives: {'of all processes' if objective.global_negatives else 'of each process its own'}"]
    evaluate = None
    if data.val is not None:
        pairs = load_retrieval_set(
            data.val,
            max_images=config.eval.max_images,
            max_words=data.max_words,
            max_pixels=data.max_pixels,
            max_sample_bytes=data.max_sample_bytes,
        )
        notices += cut_rerank_k(config.eval.rerank_k, pairs, "eval.rerank_k")
        evaluate = partial(_evaluate, pairs=pairs, config=config, tokenizer=tokenizer)
        if pairs.bad:
            skipped = ", ".join(f"{count} {cause}" for cause, count in pairs.bad.most_common())
            notices.append(f"data.val: skipped {skipped}")
    return Task(
        student,
        Momentum(encoders, objective, config.model.lmi_regions, config.seed, with_ids),
        tokenizer,
        PairReader(data, augment, tokenizer, objective.mlm_probability, with_ids),
        evaluate,
        pair_activation_bytes(
            config,
            encoders,
            objective,
            processes=accelerator.num_processes,
            bf16=accelerator.mixed_precision == "bf16",
        ),
        notices,
    )


def _evaluate(
    accelerator: Accelerator,
    student: nn.Module,
    *,
    pairs: RetrievalSet,
    config: RunConfig,
    tokenizer: PreTrainedTokenizerBase,
) -> Evaluation:
    """The score is the mean of all recalls in percent, re-ranked where they are."""
    image = student.encoders.image_encoder
    found = evaluate_retrieval(
        accelerator,
        student,
        pairs,
        eval_transform(config.model.image.image_size, image.mean, image.std),
        partial(tokenize, tokenizer, max_tokens=config.data.max_tokens),
        config=config.eval,
        max_pixels=config.data.max_pixels,
        workers=config.data.workers,
    )
    shown = ", ".join(f"{name} {value:.1f}" for name, value in found.metrics.items() if "_r" in name)
    score = found.metrics["rerank_mean" if config.eval.rerank_k > 0 else "mean"]
    line = f"retrieval of {len(pairs.images)} images x {len(pairs.captions)} texts: {shown}"
    return Evaluation(found.metrics, score, line, partial(_write, found=found, pairs=pairs))


def _write(folder: Path, *, found: RetrievalResult, pairs: RetrievalSet) -> None:
    """retrieval.jsonl, a line for each query, and gallery.html for a person to look through."""
    by_image, by_caption = ranked_queries(found.images), ranked_queries(found.captions)
    write_results(folder / "retrieval.jsonl", by_image, by_caption, pairs.image_ids, pairs.caption_ids)
    write_gallery(
        folder / "gallery.html",
        images=pairs.images,
        captions=pairs.captions,
        relevant=set(pairs.pairs),
        image_queries=by_image,
        text_queries=by_caption,
        recalls={name: value for name, value in found.metrics.items() if "_r" in name},
    )
