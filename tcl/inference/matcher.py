"""What says which texts belong to which images, by reading both together."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from tcl.config.checks import check_at_least
from tcl.data.tokens.stored_tokens import Storage, store_tokens
from tcl.data.tokens.token_file import TokenFile, TokenWriter, open_tokens
from tcl.errors import InputError
from tcl.inference.embed import PASS_TOKENS, Embedded
from tcl.inference.hardware import Hardware
from tcl.inference.images import ImageLike, Transform, encode_images, list_images
from tcl.inference.match import JointEncoder, match_probabilities, match_together, pairs_of, read_all_texts
from tcl.inference.pairs import Pair, Pairs, RankedDocument, best_documents, list_pairs, one_with_each
from tcl.inference.texts import list_texts
from tcl.search.match_pairs import TextStates
from tcl.search.match_stored import TokenStore, match_stored
from tcl.search.pair_scores import MatchPairs, image_by_image


class Matcher(ABC):
    """What `TCL` and `BlipMatcher` have in common. Images are encoded once, to tokens, for all their texts."""

    transform: Transform
    hardware: Hardware
    batch_size: int

    @property
    @abstractmethod
    def _joint(self) -> JointEncoder:
        """On `hardware.device`."""

    @property
    @abstractmethod
    def token_maker(self) -> str:
        """Hash of what makes the tokens of images, which files of them know."""

    @property
    @abstractmethod
    def token_shape(self) -> tuple[int, int]:
        """Tokens of an image that `compress_tokens` leaves, and the numbers of each."""

    @abstractmethod
    def image_tokens(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, height, width] of `transform`, on the device -> [B, N, width], all that matching needs of them.

        The precision is the caller's: `hardware.autocast`.
        """

    @abstractmethod
    def _tokenize(self, texts: Sequence[str], name: str = "texts") -> tuple[Tensor, Tensor]:
        """Listed texts -> ids and mask [T, L], on the host; what is cut is warned of. InputError, which names `name`: a
        text without words."""

    def _list_images(self, images: ImageLike | Iterable[ImageLike], name: str = "images") -> list[ImageLike]:
        """What is to be matched with texts, one or several, as a list. InputError, naming `name`: none, or something
        else."""
        return list_images(images, name)

    def match(self, images: ImageLike | Iterable[ImageLike], texts: str | Iterable[str]) -> np.ndarray:
        """Does each text belong to its image? Probabilities float32 [n], 0 to 1, of n pairs.

        One text is paired with each of n images, and one image with each of n texts. InputError: not as many texts as
        images, and neither of them is one.
        """
        images, texts = self._list_images(images), list_texts(texts)
        if len(images) == 1 < len(texts):
            return self.match_grid(images, texts)[0]
        paired, states = pairs_of(images, texts), self.read_texts(texts)
        logits = match_together(self._joint, self.encode_tokens(images), paired, states, self.hardware)
        return match_probabilities(torch.cat(list(logits))).numpy()

    def match_grid(self, images: ImageLike | Iterable[ImageLike], texts: str | Iterable[str]) -> np.ndarray:
        """Does any of the texts belong to any of the images? Probabilities float32 [images, texts], 0 to 1."""
        images, texts = self._list_images(images), list_texts(texts)
        states = self.read_texts(texts)
        logits = self.match_tokens(self.encode_tokens(images), states, [torch.arange(len(texts))] * len(images))
        return match_probabilities(torch.stack(list(logits))).numpy()

    def predict(self, pairs: Iterable[Pair]) -> np.ndarray:
        """Do the two of each pair belong together? Probabilities float32 [n], 0 to 1, of pairs (text, image) or (image,
        text): a string that comes first is a text, one that comes second after it a path.

        Images and texts that are in several pairs are read once. InputError: no pair, what is no pair of a text and an
        image.
        """
        return self._margins(list_pairs(pairs, self._list_images)).sigmoid().numpy()

    def rank(
        self,
        query: str | ImageLike,
        documents: Iterable[ImageLike] | Iterable[str],
        top_k: int | None = None,
    ) -> list[RankedDocument]:
        """The top_k (>= 1; None, or more than there are: all) documents that best match the query, best first: images
        for a query that is a string, texts for any other, which is an image.

        Of equal ones the later document comes first. InputError: no document, top_k out of range, what is neither.
        """
        check_at_least(1, {"top_k": top_k})
        return best_documents(self._margins(one_with_each(query, documents, self._list_images)), top_k)

    def _margins(self, pairs: Pairs) -> Tensor:
        """ITM logits of "match" less those of "no match" [P], fp32 on the host."""
        of_images, states = pairs.of_images(), self.read_texts(pairs.texts)
        texts_of_image = [pairs.text_of[places] for places in of_images]
        logits = match_together(self._joint, self.encode_tokens(pairs.images), texts_of_image, states, self.hardware)
        margins = torch.empty(len(pairs.text_of))
        for places, (no_match, match) in zip(of_images, (own.T for own in logits), strict=True):
            margins[places] = match - no_match
        return margins

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

    @torch.no_grad()
    def compress_tokens(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, width], on the device -> what the fusion encoder looks at, fp32 [B, *token_shape], there: few
        tokens, where it was trained on few."""
        with self.hardware.autocast():
            return self._joint.fusion_encoder.compress(tokens).float()

    def write_tokens(self, batches: Iterable[Tensor], path: str | Path, storage: Storage = "int8") -> TokenFile:
        """Batches of tokens [b, N, width], on the device, through `compress_tokens` into a file as they come.

        InputError: no storage of that name, a file that cannot be written.
        """
        if storage not in get_args(Storage):
            raise InputError(f"storage: {storage!r} is not possible; accepted: {', '.join(get_args(Storage))}")
        with TokenWriter(path, self.token_maker) as out:
            for tokens in batches:
                out.append(store_tokens(self.compress_tokens(tokens), storage))
        return self.open_tokens(path)

    def open_tokens(self, path: str | Path) -> TokenFile:
        """Tokens that were stored for this matcher; they stay on the disk until they are matched.

        InputError: no such file, a damaged one, or one of another model: another image encoder or compression.
        """
        return open_tokens(path, self.token_maker)

    def match_stored(
        self, tokens: TokenFile | str | Path, texts: str | Iterable[str], images: Iterable[int] | None = None
    ) -> np.ndarray:
        """As `match_grid`, of stored images: probabilities float32 [images, texts], 0 to 1.

        tokens: a file, or what `open_tokens` gave. images: their places in it; None: all. InputError: as `open_tokens`,
        a place that is not there.
        """
        stored, listed = self.open_tokens(tokens.path if isinstance(tokens, TokenFile) else tokens), list_texts(texts)
        rows = torch.tensor(list(range(len(stored)) if images is None else images), dtype=torch.int64)
        if not len(rows):
            raise InputError("images: there are none; give at least one place")
        pairs = torch.cartesian_prod(torch.arange(len(rows)), torch.arange(len(listed)))
        logits = self.match_stored_pairs(stored, self.read_texts(listed), rows[pairs[:, 0]], pairs[:, 1])
        return match_probabilities(logits).unflatten(0, (len(rows), len(listed))).numpy()

    def match_stored_pairs(self, stored: TokenStore, states: TextStates, images: Tensor, texts: Tensor) -> Tensor:
        """ITM logits [P, 2], fp32 on the host, of pairs, image by image: of `stored` images [P] and texts [P] (indices
        into `states`)."""
        fusion, head = self._joint.fusion_encoder, self._joint.itm_head
        return match_stored(
            fusion, head, stored, states, images, texts, pass_tokens=PASS_TOKENS, autocast=self.hardware.autocast
        ).cpu()


def second_stage(matcher: Matcher, images: Embedded, texts: Embedded) -> MatchPairs:
    """What scores pairs of these images and texts, from the tokens that there are of this matcher: stored ones, or else
    those that were kept; only images without any are encoded."""

    def match(
        image_numbers: Sequence[int], text_numbers: Sequence[int], texts_of_image: Sequence[Tensor]
    ) -> Iterator[Tensor]:
        own = images.tokens if images.tokens_of is matcher else []
        kept = [own[i] for i in image_numbers if i < len(own)]
        others = [images.items[i] for i in image_numbers[len(kept) :]]
        starts = range(0, len(kept), matcher.batch_size)
        batches = (torch.stack(kept[i : i + matcher.batch_size]).to(matcher.hardware.device) for i in starts)
        states = matcher.read_texts([texts.items[i] for i in text_numbers])
        return matcher.match_tokens(chain(batches, matcher.encode_tokens(others)), states, texts_of_image)

    def match_from_disk(image_numbers: Tensor, text_numbers: Tensor) -> Tensor:
        asked, of_text = text_numbers.unique(return_inverse=True)
        states = matcher.read_texts([texts.items[i] for i in asked.tolist()])
        return matcher.match_stored_pairs(images.stored, states, image_numbers, of_text)[:, 1]

    stored = images.stored is not None and images.stored.header.model == matcher.token_maker
    return match_from_disk if stored else partial(image_by_image, match=match)
