"""Two-stage retrieval in onnxruntime, on the CPU: the ranking of tcl.search, with pairs scored by the graphs."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tcl.config.data import DataConfig
from tcl.data.images.augment import eval_transform
from tcl.data.sets.retrieval_set import RetrievalSet
from tcl.data.texts.tokenize import tokenize
from tcl.evaluation.decoded_images import decoded_batches
from tcl.evaluation.evaluate_retrieval import RetrievalResult, retrieval_result
from tcl.onnx.towers import OnnxTowers
from tcl.search.pair_scores import image_by_image, match_once, pairs_of_images, pairs_of_texts
from tcl.search.rescore import Rescore
from tcl.search.two_stage import both_directions, search

BATCH = 32
"""Images, texts or pairs in one call of a graph."""


def onnx_recalls(towers: OnnxTowers, data: RetrievalSet, rerank_k: int) -> dict[str, float]:
    """The metrics of `onnx_retrieval`."""
    return onnx_retrieval(towers, data, rerank_k).metrics


def onnx_retrieval(
    towers: OnnxTowers,
    data: RetrievalSet,
    rerank_k: int,
    *,
    rescore: tuple[Rescore | None, Rescore | None] = (None, None),
) -> RetrievalResult:
    """As `evaluate_retrieval`.

    rerank_k: candidates of each query that ITM orders, >= 1; as many as there are, where they are fewer. InputError:
    scores of `rescore` that cannot be ranked.
    """
    every = range(len(data.images))
    image_features = torch.cat([features for _, features in _encode_images(towers, data, every)])
    text_tokens, text_features = _encode_texts(towers, data.captions)

    def match(
        image_numbers: Sequence[int], text_numbers: Sequence[int], texts_of_image: Sequence[Tensor]
    ) -> Iterator[Tensor]:
        images = (tokens for batch, _ in _encode_images(towers, data, image_numbers) for tokens in batch)
        for tokens, texts in zip(images, texts_of_image, strict=True):
            yield _match_image(towers, tokens, [text_tokens[text_numbers[text]] for text in texts.tolist()])

    def match_candidates(captions_of_images: Tensor, images_of_captions: Tensor) -> tuple[Tensor, ...]:
        wanted = [pairs_of_images(captions_of_images), pairs_of_texts(images_of_captions)]
        return match_once(wanted, partial(image_by_image, match=match))

    searches = both_directions(image_features, text_features, data.pairs, rescore)
    return retrieval_result(*search(searches, rerank_k, match_candidates))


def _encode_images(
    towers: OnnxTowers, data: RetrievalSet, numbers: Sequence[int]
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Tokens [b, N, image width] and embeddings [b, embed_dim] of the images `numbers`, in batches."""
    image = towers.config.model.image
    transform = eval_transform(image.image_size, image.mean, image.std)
    batches = [numbers[start : start + BATCH] for start in range(0, len(numbers), BATCH)]
    for pixels in decoded_batches(data.images, batches, transform, max_pixels=DataConfig.max_pixels, workers=0):
        tokens, features = towers.encode_images(pixels.numpy())
        yield tokens, torch.from_numpy(features)


def _encode_texts(towers: OnnxTowers, captions: list[str]) -> tuple[list[Tensor], Tensor]:
    """Tokens of each text [its length, text width], and the embeddings of all [C, embed_dim]."""
    input_ids, mask = tokenize(towers.tokenizer, captions, towers.config.max_tokens)
    tokens, features = [], []
    for ids, present in zip(input_ids.split(BATCH), mask.split(BATCH), strict=True):
        read, embedded = (torch.from_numpy(found) for found in towers.encode_texts(ids.numpy(), present.numpy()))
        tokens += [row[:length] for row, length in zip(read, present.sum(dim=1).tolist(), strict=True)]
        features.append(embedded)
    return tokens, torch.cat(features)


def _match_image(towers: OnnxTowers, image_tokens: np.ndarray, texts: list[Tensor]) -> Tensor:
    """ITM logits [R, 2] of an image [N, image width] with R texts [length, text width]."""
    logits = []
    for start in range(0, len(texts), BATCH):
        some = texts[start : start + BATCH]
        padded = pad_sequence(some, batch_first=True)
        lengths = torch.tensor([len(text) for text in some])
        mask = (torch.arange(padded.shape[1]) < lengths[:, None]).long()
        images = np.repeat(image_tokens[None], len(some), axis=0)
        logits.append(torch.from_numpy(towers.match(images, padded.numpy(), mask.numpy())))
    return torch.cat(logits)
