"""Stored queries that re-score an evaluation: images and captions of other shards, mostly those of training."""

from collections.abc import Callable, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor

from tcl.config.data import DataConfig
from tcl.config.retrieval_eval import EvalConfig
from tcl.data.sets.retrieval_set import RetrievalSet, load_retrieval_set
from tcl.errors import InputError
from tcl.evaluation.encoded_images import Decode, EncodedImages
from tcl.models.encoders import Encoders
from tcl.search.rescore import Rescore
from tcl.search.rescorings import rescoring
from tcl.search.text_passes import embed_texts


def load_bank(
    pattern: str,
    evaluated: RetrievalSet,
    *,
    field: str = "eval.rescore_bank",
    max_words: int,
    max_pixels: int,
    max_sample_bytes: int = DataConfig.max_sample_bytes,
) -> RetrievalSet:
    """As `load_retrieval_set`, then as `without_evaluated`."""
    bank = load_retrieval_set(
        pattern,
        field=field,
        max_words=max_words,
        max_pixels=max_pixels,
        max_sample_bytes=max_sample_bytes,
    )
    return without_evaluated(bank, evaluated, field, pattern)


def without_evaluated(bank: RetrievalSet, evaluated: RetrievalSet, field: str, pattern: str) -> RetrievalSet:
    """`bank`, which is of the shards `pattern`, less captions that are evaluated word for word: other images may have
    them, too.

    InputError, naming `field`: an image that is evaluated, with which its queries would rank themselves; no captions
    are left.
    """
    known = set(evaluated.images)
    both = [name for name, image in zip(bank.image_ids, bank.images, strict=True) if image in known]
    if both:
        raise InputError(
            f"{field}: {pattern!r} holds {len(both):,} of the images that are evaluated ({both[0]}, ...); "
            f"give shards of other images, e.g. those of training"
        )
    captions = set(evaluated.captions)
    bank.captions = [caption for caption in bank.captions if caption not in captions]
    if not bank.captions:
        raise InputError(f"{field}: all captions of {pattern!r} are evaluated, too; give other shards")
    return bank


@torch.no_grad()
def rescore_both(
    accelerator: Accelerator,
    encoders: Encoders,
    bank: RetrievalSet | None,
    decode: Decode | None,
    tokenize: Callable[[Sequence[str]], tuple[Tensor, Tensor]],
    *,
    config: EvalConfig,
) -> tuple[Rescore, Rescore]:
    """Of image queries, and of caption queries, as config.rescore says. Called on every process. bank, and decode of
    its images: None for a transductive score."""
    images = texts = None
    if bank is not None:
        was_training = encoders.training
        encoders.eval()
        images = EncodedImages(accelerator, encoders, len(bank.images), decode, config.batch_size, room_gib=0).embed()
        texts = embed_texts(
            encoders.embed_ids,
            *tokenize(bank.captions),
            pass_tokens=config.pass_tokens,
            device=accelerator.device,
            autocast=accelerator.autocast,
            no_bar=None if accelerator.is_main_process else True,
        )
        encoders.train(was_training)
    return tuple(
        rescoring(config.rescore, stored, config.rescore_temperature, config.rescore_iterations)
        for stored in (images, texts)
    )
