"""Two-stage retrieval (ALBEF section 4): all embeddings, then the ITM score of the best candidates of every query."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor
from tqdm import tqdm

from tcl.config.retrieval_eval import EvalConfig
from tcl.data.sets.retrieval_set import RetrievalSet
from tcl.evaluation.encoded_images import Decode, EncodedImages
from tcl.evaluation.recall import rank_metrics
from tcl.objectives.tcl import TCLStudent
from tcl.search.candidates import Ranked
from tcl.search.codes import Codes
from tcl.search.match_pairs import TextStates, image_logits, read_texts
from tcl.search.pair_scores import match_once, pairs_of_images, pairs_of_texts
from tcl.search.rescore import Rescore
from tcl.search.text_passes import embed_texts
from tcl.search.two_stage import Found, MatchCandidates, both_directions, search

LISTED = 10
"""Candidates of a query in the result where nothing re-ranks them."""


@dataclass
class RetrievalResult:
    """Of I image queries and C caption queries, on the host; after re-ranking where there was any."""

    images: Ranked
    """Candidates are captions."""
    captions: Ranked
    """Candidates are images."""
    metrics: dict[str, float]
    """As `rank_metrics`, from the embeddings; from what is stored of them with the prefix quantised_, re-ranked with
    rerank_."""
    first_images: Ranked
    """As `images`, of the first stage; the same where nothing re-ranks."""
    first_captions: Ranked
    image_probabilities: Tensor | None = None
    """[I, k], that the candidates of `images` match, 0 to 1; None: nothing has matched them."""
    caption_probabilities: Tensor | None = None
    pair_similarities: list[float] | None = None
    """Cosines of the right pairs, in their order; None: first stages are not ordered by cosines."""


@torch.no_grad()
def evaluate_retrieval(
    accelerator: Accelerator,
    student: TCLStudent,
    data: RetrievalSet,
    decode: Decode,
    tokenize: Callable[[Sequence[str]], tuple[Tensor, Tensor]],
    *,
    config: EvalConfig,
    rescore: tuple[Rescore, Rescore] | None = None,
    rescored: str = "rescored",
    store: Callable[[Tensor], Codes] | None = None,
) -> RetrievalResult:
    """Called on every process; all get the result. They share the images and the pairs, and each reads all texts.

    decode: of data.images. rescore: of image queries and of caption queries; what ITM orders follows
    their scores, and so do metrics with the prefix `rescored`. store: what a system keeps of its candidates [n, D],
    which queries as they are then search; metrics of that have the prefix quantised_, and ITM orders what it finds.

    config.rerank_k may be more than there are candidates: ITM orders all of them then. With 0 of them the networks of
    the second stage are not used. InputError: scores of `rescore` that cannot be ranked.
    """
    was_training = student.training
    student.eval()
    try:
        images = EncodedImages(
            accelerator, student.encoders, len(data.images), decode, config.batch_size, config.image_cache_gib
        )
        input_ids, mask = (tensor.to(accelerator.device) for tensor in tokenize(data.captions))
        text_features, match = _read_captions(accelerator, student, images, input_ids, mask, config)
        image_features = images.embed()
        plain = both_directions(image_features, text_features, data.pairs)
        searches = both_directions(image_features, text_features, data.pairs, rescore) if rescore else plain
        similarity_weight = config.rerank_similarity / student.temperature.item() if match else 0.0
        logits: list[Tensor] = []
        if store is not None:
            searches, rescored = [replace(one, candidates=store(one.candidates)) for one in plain], "quantised"
        second = None if match is None else partial(_match_scores, match, logits)
        by_image, by_caption = search(searches, config.rerank_k or LISTED, second, similarity_weight)
        result = retrieval_result(by_image, by_caption, logits)
        if searches is plain:
            of_images, of_captions = torch.tensor(data.pairs, device=image_features.device).T
            cosines = (image_features[of_images] * text_features[of_captions]).sum(dim=1)
            return replace(result, pair_similarities=cosines.tolist())
        of_rescored = rank_metrics(by_image.first.ranks, by_caption.first.ranks)
        before = retrieval_result(*search(plain, 1)).metrics
        result.metrics |= before | {f"{rescored}_{name}": value for name, value in of_rescored.items()}
        return result
    finally:
        student.train(was_training)


def retrieval_result(by_image: Found, by_caption: Found, logits: Sequence[Tensor] = ()) -> RetrievalResult:
    """From what image queries and caption queries found, with ranks. logits: ITM logits [I, k, 2] and [C, k, 2] of the
    candidates as the first stages order them, where they are known."""
    metrics = rank_metrics(by_image.first.ranks, by_caption.first.ranks)
    if by_image.best is not by_image.first:
        reranked = rank_metrics(by_image.best.ranks, by_caption.best.ranks)
        metrics |= {f"rerank_{name}": value for name, value in reranked.items()}
    ranked = (by_image.best, by_caption.best, by_image.first, by_caption.first)
    best_images, best_captions, first_images, first_captions = map(_on_host, ranked)
    matched = [_probabilities(found, own) for found, own in zip((by_image, by_caption), logits, strict=False)]
    return RetrievalResult(best_images, best_captions, metrics, first_images, first_captions, *matched)


def _probabilities(found: Found, logits: Tensor) -> Tensor:
    """[Q, k], in the order of found.best."""
    places = found.first.candidates.argsort(dim=1).gather(1, found.best.candidates.argsort(dim=1).argsort(dim=1))
    return logits.softmax(dim=-1)[..., 1].gather(1, places).cpu()


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


def _on_host(ranked: Ranked) -> Ranked:
    return Ranked(*(tensor.cpu() for tensor in vars(ranked).values()))


def _read_captions(
    accelerator: Accelerator,
    student: TCLStudent,
    images: EncodedImages,
    input_ids: Tensor,
    mask: Tensor,
    config: EvalConfig,
) -> tuple[Tensor, MatchCandidates | None]:
    """Embeddings [C, embed_dim] of captions, ids and mask [C, L], and the second stage, where there is one."""
    reading = {"pass_tokens": config.pass_tokens, "autocast": accelerator.autocast}
    if config.rerank_k == 0:
        device, no_bar = accelerator.device, _no_bar(accelerator)
        features = embed_texts(student.encoders.embed_ids, input_ids, mask, device=device, no_bar=no_bar, **reading)
        return features.to(device), None
    features, states = read_texts(student.encoders, input_ids, mask, **reading)
    return features, partial(candidate_logits, accelerator, student, images, states, pass_tokens=config.pass_tokens)


def _match_scores(match: MatchCandidates, logits: list[Tensor], *candidates: Tensor) -> list[Tensor]:
    """What orders the candidates of each search: their logits of "match". All logits are left in `logits`."""
    logits[:] = match(*candidates)
    return [own[..., 1] for own in logits]


def candidate_logits(
    accelerator: Accelerator,
    student: TCLStudent,
    images: EncodedImages,
    states: TextStates,
    captions_of_images: Tensor,
    images_of_captions: Tensor,
    pass_tokens: int,
) -> tuple[Tensor, Tensor]:
    """ITM logits [I, k, 2] and [C, k, 2] of the candidates of both directions: [I, k] captions of images and [C, k]
    images of captions.

    A pair that both directions want is scored once, by the process that has its image.
    """
    # Processes whose hardware rounds differently must still agree on which pairs there are; in place, so that their
    # searches order the same candidates.
    captions_of_images, images_of_captions = broadcast([captions_of_images, images_of_captions])
    wanted = [pairs_of_images(captions_of_images), pairs_of_texts(images_of_captions)]
    return match_once(wanted, partial(_match_shared, accelerator, student, images, states, pass_tokens))


def _match_shared(
    accelerator: Accelerator,
    student: TCLStudent,
    images: EncodedImages,
    states: TextStates,
    pass_tokens: int,
    pair_images: Tensor,
    pair_texts: Tensor,
) -> Tensor:
    """ITM logits [P, 2] of pairs, as `MatchPairs`; images are shared among the processes by the text tokens paired with
    them."""
    device = accelerator.device
    wanted, pairs_of = pair_images.unique_consecutive(return_counts=True)
    ends = pairs_of.cumsum(0)
    encoding = states.lengths.new_tensor(student.encoders.image_encoder.patches)
    cost = (states.lengths[pair_texts].cumsum(0))[ends - 1] + encoding * torch.arange(1, len(ends) + 1, device=device)
    # Image w belongs to the process in whose share of the whole cost the middle of its own lies.
    middle = cost - torch.diff(cost, prepend=cost.new_zeros(1)) / 2
    owner = (middle * accelerator.num_processes / cost[-1]).long().clamp(max=accelerator.num_processes - 1)
    own = (owner == accelerator.process_index).nonzero().flatten().tolist()

    logits = torch.zeros(len(pair_images), 2, device=device)
    starts, stops, numbers = (ends - pairs_of).tolist(), ends.tolist(), wanted.tolist()
    encoded = images.encode([numbers[w] for w in own])
    with tqdm(
        total=sum(pairs_of[own].tolist()), unit="pair", desc="re-ranking", leave=False, disable=_no_bar(accelerator)
    ) as bar:
        for w, (_, tokens) in zip(own, encoded, strict=True):
            some = slice(starts[w], stops[w])
            with accelerator.autocast():
                logits[some] = image_logits(
                    student.encoders.fusion_encoder, student.itm_head, tokens, pair_texts[some], states, pass_tokens
                )
            bar.update(some.stop - some.start)
    return accelerator.reduce(logits, reduction="sum")


def _no_bar(accelerator: Accelerator) -> bool | None:
    """tqdm's `disable`: on other processes than the main one, and (None) where nobody watches."""
    return None if accelerator.is_main_process else True
