"""Zero-shot retrieval of a pre-trained model: recalls from the embeddings, and re-ranked by ITM.

The second stage scores the k best candidates of every query in both directions with the fusion encoder (ALBEF section
4). Pairs wanted by both directions are scored once, grouped by image so that a chunk computes an image's keys and
values once.
"""

from collections.abc import Callable

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image
from torch import Tensor

from tcl.config import EvalConfig
from tcl.data.decode import decode_image
from tcl.data.retrieval_set import RetrievalSet
from tcl.evaluation.recall import retrieval_recalls
from tcl.models.tcl import TCL

NOT_A_CANDIDATE = -100.0
"""Re-ranking score of a pair outside the top k, below any that a candidate gets (as published)."""


@torch.no_grad()
def zero_shot_retrieval(
    accelerator: Accelerator,
    student: TCL,
    pairs: RetrievalSet,
    transform: Callable[[Image.Image], Tensor],
    tokenize: Callable[[list[str]], tuple[Tensor, Tensor]],
    max_pixels: int,
    config: EvalConfig,
) -> dict[str, float]:
    """Recalls in percent: `i2t_r1` ... `t2i_r10` from the embeddings, and `rerank_*` where config.rerank_k > 0.

    Called on every process, which share the work; all get the result.
    """
    student.eval()
    try:
        images = _embed_images(accelerator, student, pairs, transform, max_pixels, config.batch_size)
        texts = _embed_texts(accelerator, student, pairs, tokenize, config.batch_size)
        image_of_caption = torch.tensor(pairs.image_of_caption, device=accelerator.device)
        similarity = images.feature @ texts.feature.T
        recalls = retrieval_recalls(similarity, image_of_caption)
        if config.rerank_k > 0:
            scores = _rerank(accelerator, student, images, texts, similarity, config)
            reranked = retrieval_recalls(scores, image_of_caption)
            recalls |= {f"rerank_{name}": value for name, value in reranked.items()}
        return recalls
    finally:
        student.train()


class _Embedded:
    """Features [n, D], tokens [n, L, width] and, for texts, their mask [n, L]; the same on every process."""

    def __init__(self, accelerator: Accelerator, parts: list[tuple[Tensor, Tensor, Tensor]]):
        own = tuple(torch.cat(column).cpu() for column in zip(*parts, strict=True)) if parts else None
        gathered = [part for part in gather_object([own]) if part is not None]
        self.feature, self.tokens, self.mask = (
            torch.cat(c).to(accelerator.device) for c in zip(*gathered, strict=True)
        )


def _own_share(accelerator: Accelerator, count: int) -> range:
    rank, world = accelerator.process_index, accelerator.num_processes
    return range(count * rank // world, count * (rank + 1) // world)


def _embed_images(accelerator, student, pairs, transform, max_pixels, batch_size) -> _Embedded:
    parts, own = [], _own_share(accelerator, len(pairs.images))
    for start in range(own.start, own.stop, batch_size):
        encoded = pairs.images[start : min(start + batch_size, own.stop)]
        image = torch.stack([transform(decode_image(content, max_pixels=max_pixels)) for content in encoded])
        with accelerator.autocast():
            tokens = student.encoders.image_encoder(image.to(accelerator.device))
            feature = student.encoders.project_image(tokens[:, 0])
        parts.append((feature, tokens, tokens.new_zeros(len(tokens))))
    return _Embedded(accelerator, parts)


def _embed_texts(accelerator, student, pairs, tokenize, batch_size) -> _Embedded:
    input_ids, mask = (tensor.to(accelerator.device) for tensor in tokenize(pairs.captions))
    parts, own = [], _own_share(accelerator, len(input_ids))
    for start in range(own.start, own.stop, batch_size):
        rows = slice(start, min(start + batch_size, own.stop))
        with accelerator.autocast():
            tokens = student.encoders.text_encoder(input_ids[rows], mask[rows])
            feature = student.encoders.project_text(tokens[:, 0])
        parts.append((feature, tokens, mask[rows]))
    return _Embedded(accelerator, parts)


def _rerank(accelerator, student, images: _Embedded, texts: _Embedded, similarity: Tensor, config) -> Tensor:
    """ITM scores [I, C] of the candidates of both directions, NOT_A_CANDIDATE elsewhere."""
    image_count, caption_count = similarity.shape
    best_captions = similarity.topk(min(config.rerank_k, caption_count), dim=1).indices
    best_images = similarity.topk(min(config.rerank_k, image_count), dim=0).indices
    wanted = torch.zeros_like(similarity, dtype=torch.bool)
    wanted.scatter_(1, best_captions, True)
    wanted.scatter_(0, best_images, True)
    candidates = wanted.nonzero()  # sorted by image

    own = _own_share(accelerator, len(candidates))
    scores = torch.zeros_like(similarity)
    fusion = student.encoders.fusion_encoder
    for chunk in candidates[own.start : own.stop].split(4 * config.batch_size):
        chunk_images, image_index = chunk[:, 0].unique(return_inverse=True)
        with accelerator.autocast():
            keys_values = fusion.image_keys_values(images.tokens[chunk_images])
            fused = fusion(texts.tokens[chunk[:, 1]], texts.mask[chunk[:, 1]], keys_values, image_index)
            logits = student.itm_head(fused[:, 0])
        scores[chunk[:, 0], chunk[:, 1]] = logits[:, 1].float()
    scores = accelerator.reduce(scores, reduction="sum")
    return scores.masked_fill(~wanted, NOT_A_CANDIDATE)
