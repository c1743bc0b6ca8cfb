"""ITM scores of pairs in any order, as second stages ask for them, from a matcher that goes image by image."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from tcl.shown import QUIET_SECONDS

MatchPairs = Callable[[Sequence[int], Sequence[int], Sequence[Tensor]], Iterable[Tensor]]
"""Images and texts (indices, ascending), and for each of these images which of these texts -> its logits [R, 2]."""


def match_each_pair(images: Tensor, texts: Tensor, match: MatchPairs) -> Tensor:
    """Scores [Q, k] of pairs (images, texts), indices [Q, k] each: every image and text is read once."""
    image_numbers, image_of = images.flatten().unique(return_inverse=True)
    text_numbers, text_of = texts.flatten().unique(return_inverse=True)
    by_image = image_of.argsort(stable=True)
    texts_of_image = text_of[by_image].split(image_of.bincount().tolist())
    scores = torch.empty(images.numel())
    bar = tqdm(total=images.numel(), desc="re-ranking", unit="pair", leave=False, delay=QUIET_SECONDS, disable=None)
    start = 0
    with bar:
        for logits in match(image_numbers.tolist(), text_numbers.tolist(), texts_of_image):
            scores[by_image[start : start + len(logits)]] = logits[:, 1]
            start += len(logits)
            bar.update(len(logits))
    return scores.view_as(images)
