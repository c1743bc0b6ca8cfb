"""Two-stage retrieval (ALBEF section 4): all embeddings, then the ITM score of the best candidates of every query."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object
from torch import Tensor
from tqdm import tqdm

from tcl.config.retrieval_eval import EvalConfig
from tcl.data.sets.retrieval_set import RetrievalSet
from tcl.evaluation.decoded_images import decoded_batches
from tcl.evaluation.recall import rank_metrics
from tcl.objectives.tcl import TCLStudent
from tcl.search.candidates import Ranked, rank_again, rank_by_embedding, relevance
from tcl.search.match_pairs import TextStates, image_logits, read_texts


@dataclass
class RetrievalResult:
    """Of I image queries and C caption queries, on the host; after re-ranking where there was any."""

    images: Ranked
    """Candidates are captions."""
    captions: Ranked
    """Candidates are images."""
    metrics: dict[str, float]
    """As `rank_metrics`, from the embeddings; re-ranked with the prefix rerank_."""


@torch.no_grad()
def evaluate_retrieval(
    accelerator: Accelerator,
    student: TCLStudent,
    data: RetrievalSet,
    transform: Callable[[np.ndarray], Tensor],
    tokenize: Callable[[Sequence[str]], tuple[Tensor, Tensor]],
    *,
    config: EvalConfig,
    max_pixels: int,
    workers: int,
) -> RetrievalResult:
    """Called on every process; all get the result. They share the images and the pairs, and each reads all texts.

    `workers` (>= 0) processes decode images.

    config.rerank_k may be more than there are candidates: ITM orders all of them then.
    """
    was_training = student.training
    student.eval()
    try:
        decode = partial(decoded_batches, data.images, transform=transform, max_pixels=max_pixels, workers=workers)
        images = _Images(accelerator, student, len(data.images), decode, config)
        input_ids, mask = (tensor.to(accelerator.device) for tensor in tokenize(data.captions))
        text_features, states = read_texts(
            student.encoders, input_ids, mask, pass_tokens=config.pass_tokens, autocast=accelerator.autocast
        )
        image_features = images.embed()
        of_images, of_captions = torch.tensor(data.pairs, device=accelerator.device).T
        captions_of = relevance(of_images, of_captions, len(data.images))
        images_of = relevance(of_captions, of_images, len(data.captions))
        k = max(config.rerank_k, 10)
        by_image = rank_by_embedding(image_features, text_features, captions_of, min(k, len(data.captions)))
        by_caption = rank_by_embedding(text_features, image_features, images_of, min(k, len(data.images)))
        metrics = rank_metrics(by_image.ranks, by_caption.ranks)
        if config.rerank_k > 0:
            by_image, by_caption = (_cut(ranked, config.rerank_k) for ranked in (by_image, by_caption))
            image_scores, caption_scores = match_candidates(
                accelerator, student, images, states, by_image.candidates, by_caption.candidates, config.pass_tokens
            )
            by_image = rank_again(by_image, image_scores, captions_of, len(data.captions))
            by_caption = rank_again(by_caption, caption_scores, images_of, len(data.images))
            reranked = rank_metrics(by_image.ranks, by_caption.ranks)
            metrics |= {f"rerank_{name}": value for name, value in reranked.items()}
        return RetrievalResult(_on_host(by_image), _on_host(by_caption), metrics)
    finally:
        student.train(was_training)


def cut_rerank_k(k: int, data: RetrievalSet, field: str) -> list[str]:
    """A note, naming the option `field`, where k (>= 0) is more than there are images or captions: all of them are
    ordered then."""
    images, captions = len(data.images), len(data.captions)
    if k <= min(images, captions):
        return []
    return [
        f"{field}: {k:,}, of {images:,} images and {captions:,} captions; ITM orders {min(k, captions):,} captions of "
        f"each image, {min(k, images):,} images of each caption"
    ]


def _cut(ranked: Ranked, k: int) -> Ranked:
    return Ranked(ranked.candidates[:, :k], ranked.scores[:, :k], ranked.ranks)


def _on_host(ranked: Ranked) -> Ranked:
    return Ranked(*(tensor.cpu() for tensor in vars(ranked).values()))


class _Images:
    """Tokens of `count` images, encoded when they are asked for; some are kept, up to config.image_cache_gib.

    decode: batches of indices -> pixels of each batch.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        student: TCLStudent,
        count: int,
        decode: Callable[[Sequence[Sequence[int]]], Iterator[Tensor]],
        config: EvalConfig,
    ):
        self.accelerator = accelerator
        self.encoders = student.encoders
        self.count = count
        self.decode = decode
        self.batch_size = config.batch_size
        self.room = config.image_cache_gib * 2**30
        self.kept: dict[int, Tensor] = {}

    def embed(self) -> Tensor:
        """Features of all images [I, embed_dim]; each process encodes its share."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        own = range(self.count * rank // processes, self.count * (rank + 1) // processes)
        features = []
        for _, tokens in self.encode(own):
            with self.accelerator.autocast():
                features.append(self.encoders.project_image(tokens[:1]).cpu())
        gathered = [part for part in gather_object([torch.cat(features) if features else None]) if part is not None]
        return torch.cat(gathered).to(self.accelerator.device)

    def encode(self, indices: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """(index, tokens [N, width]) of images, in the order of `indices`."""
        missing = [index for index in indices if index not in self.kept]
        fresh = self._encode_in_batches(missing)
        for index in indices:
            yield (index, self.kept[index]) if index in self.kept else next(fresh)

    def _encode_in_batches(self, indices: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        batches = [indices[start : start + self.batch_size] for start in range(0, len(indices), self.batch_size)]
        for batch, pixels in zip(batches, self.decode(batches), strict=True):
            with self.accelerator.autocast():
                encoded = self.encoders.image_encoder(pixels.to(self.accelerator.device))
            for index, tokens in zip(batch, encoded, strict=True):
                size = tokens.numel() * tokens.element_size()
                if size <= self.room:
                    self.room -= size
                    self.kept[index] = tokens.clone()
                yield index, tokens


def match_candidates(
    accelerator: Accelerator,
    student: TCLStudent,
    images: _Images,
    states: TextStates,
    captions_of_images: Tensor,
    images_of_captions: Tensor,
    pass_tokens: int,
) -> tuple[Tensor, Tensor]:
    """ITM scores of the candidates of both directions: [I, k] captions of images and [C, k] images of captions.

    A pair that both directions want is scored once. Images are shared among the processes by the text tokens paired
    with them.
    """
    device, count = accelerator.device, len(images_of_captions)
    # Processes whose hardware rounds differently must still agree on which pairs there are.
    captions_of_images, images_of_captions = broadcast([captions_of_images, images_of_captions])
    by_image = torch.arange(len(captions_of_images), device=device)[:, None] * count + captions_of_images
    by_caption = images_of_captions * count + torch.arange(count, device=device)[:, None]
    pairs = torch.cat([by_image.flatten(), by_caption.flatten()]).unique()  # ascending: image by image
    pair_images, pair_texts = pairs // count, pairs % count

    wanted, pairs_of = pair_images.unique_consecutive(return_counts=True)
    ends = pairs_of.cumsum(0)
    encoding = states.lengths.new_tensor(math.prod(student.encoders.image_encoder.grid))
    cost = (states.lengths[pair_texts].cumsum(0))[ends - 1] + encoding * torch.arange(1, len(ends) + 1, device=device)
    # Image w belongs to the process in whose share of the whole cost the middle of its own lies.
    middle = cost - torch.diff(cost, prepend=cost.new_zeros(1)) / 2
    owner = (middle * accelerator.num_processes / cost[-1]).long().clamp(max=accelerator.num_processes - 1)
    own = (owner == accelerator.process_index).nonzero().flatten().tolist()

    scores = torch.zeros(len(pairs), device=device)
    starts, stops, numbers = (ends - pairs_of).tolist(), ends.tolist(), wanted.tolist()
    encoded = images.encode([numbers[w] for w in own])
    with tqdm(
        total=sum(pairs_of[own].tolist()), unit="pair", desc="re-ranking", leave=False, disable=_no_bar(accelerator)
    ) as bar:
        for w, (_, tokens) in zip(own, encoded, strict=True):
            some = slice(starts[w], stops[w])
            with accelerator.autocast():
                logits = image_logits(
                    student.encoders.fusion_encoder, student.itm_head, tokens, pair_texts[some], states, pass_tokens
                )
            scores[some] = logits[:, 1]
            bar.update(some.stop - some.start)
    scores = accelerator.reduce(scores, reduction="sum")
    return scores[torch.searchsorted(pairs, by_image)], scores[torch.searchsorted(pairs, by_caption)]


def _no_bar(accelerator: Accelerator) -> bool | None:
    """tqdm's `disable`: on other processes than the main one, and (None) where nobody watches."""
    return None if accelerator.is_main_process else True
