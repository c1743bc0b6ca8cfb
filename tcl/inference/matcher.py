"""What says which texts belong to which images, by reading both together."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tcl.inference.images import ImageLike, Transform, encode_images, list_images
from tcl.inference.match import JointEncoder, match_probabilities, match_together, pairs_of, read_all_texts
from tcl.inference.texts import list_texts
from tcl.search.match_pairs import TextStates
from tcl.search.pair_scores import MatchImages

if TYPE_CHECKING:
    from tcl.inference.embed import Embedded
    from tcl.inference.hardware import Hardware


class Matcher(ABC):
    """What `TCL` and `BlipMatcher` have in common. Images are encoded once, to tokens, for all their texts."""

    transform: Transform
    hardware: "Hardware"
    batch_size: int

    @property
    @abstractmethod
    def _joint(self) -> JointEncoder:
        """On `hardware.device`."""

    @abstractmethod
    def image_tokens(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, height, width] of `transform`, on the device -> [B, N, width], all that matching needs of them.

        The precision is the caller's: `hardware.autocast`.
        """

    @abstractmethod
    def _tokenize(self, texts: Sequence[str], name: str = "texts") -> tuple[Tensor, Tensor]:
        """Listed texts -> ids and mask [T, L], on the host; what is cut is warned of. InputError, which names `name`: a
        text without words."""

    def match(self, images: ImageLike | Iterable[ImageLike], texts: str | Iterable[str]) -> np.ndarray:
        """Does each text belong to its image? Probabilities float32 [n], 0 to 1, of n pairs.

        One text is paired with each of n images, and one image with each of n texts. InputError: not as many texts as
        images, and neither of them is one.
        """
        images, texts = list_images(images), list_texts(texts)
        if len(images) == 1 < len(texts):
            return self.match_grid(images, texts)[0]
        paired, states = pairs_of(images, texts), self.read_texts(texts)
        logits = match_together(self._joint, self.encode_tokens(images), paired, states, self.hardware)
        return match_probabilities(torch.cat(list(logits))).numpy()

    def match_grid(self, images: ImageLike | Iterable[ImageLike], texts: str | Iterable[str]) -> np.ndarray:
        """Does any of the texts belong to any of the images? Probabilities float32 [images, texts], 0 to 1."""
        images, texts = list_images(images), list_texts(texts)
        states = self.read_texts(texts)
        logits = self.match_tokens(self.encode_tokens(images), states, [torch.arange(len(texts))] * len(images))
        return match_probabilities(torch.stack(list(logits))).numpy()

    def encode_tokens(self, images: Sequence[ImageLike], name: str = "images") -> Iterator[Tensor]:
        """Tokens [b, N, width] of listed images, batch_size at a time, on the device."""
        return encode_images(
            self.image_tokens,
            self.transform,
            images,
            batch_size=self.batch_size,
            hardware=self.hardware,
            name=name,
        )

    def read_texts(self, texts: Sequence[str]) -> TextStates:
        """What `match_tokens` needs of listed texts, on the device."""
        return read_all_texts(self._joint, *self._tokenize(texts), self.hardware)

    def match_tokens(
        self, batches: Iterable[Tensor], states: TextStates, texts_of_image: Sequence[Tensor]
    ) -> Iterator[Tensor]:
        """Batches of tokens [b, N, width] of I images, on the device, and the texts of each (indices [R] into `states`)
        -> its ITM logits [R, 2], "no match" and "match", fp32 on the host."""
        return match_together(self._joint, batches, texts_of_image, states, self.hardware)


def second_stage(matcher: Matcher, images: "Embedded", texts: "Embedded") -> MatchImages:
    """What scores pairs of these images and texts; tokens that were kept for this matcher are not encoded again."""
    own = images.tokens if images.tokens_of is matcher else []

    def match(
        image_numbers: Sequence[int], text_numbers: Sequence[int], texts_of_image: Sequence[Tensor]
    ) -> Iterator[Tensor]:
        kept = [own[i] for i in image_numbers if i < len(own)]
        others = [images.items[i] for i in image_numbers[len(kept) :]]
        starts = range(0, len(kept), matcher.batch_size)
        batches = (torch.stack(kept[i : i + matcher.batch_size]).to(matcher.hardware.device) for i in starts)
        states = matcher.read_texts([texts.items[i] for i in text_numbers])
        return matcher.match_tokens(chain(batches, matcher.encode_tokens(others)), states, texts_of_image)

    return match
