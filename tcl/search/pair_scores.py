"""Second stages from what scores pairs: every pair is scored once, whichever searches want it and however often."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from tcl.shown import QUIET_SECONDS

MatchPairs = Callable[[Tensor, Tensor], Tensor]
"""Images and texts [P] int64 each, of P pairs -> their scores [P], or whatever else there is of each [P, ...].

All pairs differ, and ascend: image by image, the texts of an image in their order.
"""
MatchImages = Callable[[Sequence[int], Sequence[int], Sequence[Tensor]], Iterable[Tensor]]
"""Images and texts (indices, ascending), and for each of these images which of these texts -> its logits [R, 2]."""


def pairs_of_images(texts: Tensor) -> tuple[Tensor, Tensor]:
    """Candidates [I, k] of images 0 .. I - 1 -> pairs, images [I, 1] and texts [I, k]."""
    return torch.arange(len(texts), device=texts.device)[:, None], texts


def pairs_of_texts(images: Tensor) -> tuple[Tensor, Tensor]:
    """Candidates [T, k] of texts 0 .. T - 1 -> pairs, images [T, k] and texts [T, 1]."""
    return images, torch.arange(len(images), device=images.device)[:, None]


def match_once(wanted: Sequence[tuple[Tensor, Tensor]], match: MatchPairs) -> tuple[Tensor, ...]:
    """wanted: (images, texts), indices that make one shape together -> scores of these pairs, in the same shapes."""
    count = max(int(texts.max()) for _, texts in wanted) + 1
    keys = [images * count + texts for images, texts in wanted]
    pairs = torch.cat([key.flatten() for key in keys]).unique()  # ascending: image by image
    scores = match(pairs // count, pairs % count)
    return tuple(scores[torch.searchsorted(pairs, key)] for key in keys)


def image_by_image(images: Tensor, texts: Tensor, match: MatchImages) -> Tensor:
    """Scores [P] as `MatchPairs` gives them, from what goes image by image: every image and text is read once."""
    image_numbers, texts_of = images.unique_consecutive(return_counts=True)
    text_numbers, text_of = texts.unique(return_inverse=True)
    texts_of_image = text_of.split(texts_of.tolist())
    scores = torch.empty(len(images))
    bar = tqdm(total=len(images), desc="re-ranking", unit="pair", leave=False, delay=QUIET_SECONDS, disable=None)
    start = 0
    with bar:
        for logits in match(image_numbers.tolist(), text_numbers.tolist(), texts_of_image):
            scores[start : start + len(logits)] = logits[:, 1]
            start += len(logits)
            bar.update(len(logits))
    return scores
