"""Pairs of a query and a document, one of them a text and the other an image, as re-rankers take them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tcl.errors import InputError
from tcl.inference.images import ImageLike, list_images
from tcl.inference.texts import list_texts
from tcl.search.candidates import best_of

Pair = tuple[str | ImageLike, str | ImageLike]
"""A query and a document. A query that is a string is a text, and its document an image (there a string is a path); any
other query is an image, and its document a text."""


ListImages = Callable[[Any, str], list]
"""What may be an image, one or several, and how messages call it -> a list of them."""


@dataclass(frozen=True)
class RankedDocument:
    """A document of `Matcher.rank`."""

    index: int
    """Its place among the documents."""
    score: float
    """0 to 1: the probability that it and the query belong together."""


@dataclass(frozen=True)
class Pairs:
    """P pairs of I different images and T different texts."""

    images: list[ImageLike]
    texts: list[str]
    image_of: Tensor
    """[P] int64: places in `images`."""
    text_of: Tensor
    """[P] int64: places in `texts`."""

    def of_images(self) -> list[Tensor]:
        """The pairs of each image: their places [R] among the P, int64."""
        order, counts = self.image_of.argsort(stable=True), torch.bincount(self.image_of, minlength=len(self.images))
        return list(order.split(counts.tolist()))


def one_with_each(
    query: str | ImageLike, documents: Iterable[ImageLike] | Iterable[str], list_images: ListImages = list_images
) -> Pairs:
    """A query with each of its documents. InputError: none of them, neither texts nor images."""
    if isinstance(query, str):
        texts, images = list_texts(query, "query"), list_images(documents, "documents")
    else:
        texts, images = list_texts(documents, "documents"), list_images([query], "query")
    places = torch.cartesian_prod(torch.arange(len(images)), torch.arange(len(texts)))
    return Pairs(images, texts, places[:, 0], places[:, 1])


def list_pairs(pairs: Iterable[Pair], list_images: ListImages = list_images) -> Pairs:
    """Pairs in their order; what is in several of them is there once. InputError: none, what is no pair, two texts or
    two images."""
    images: list[ImageLike] = []
    image_places: dict[object, tuple[int, object]] = {}
    text_places: dict[str, int] = {}
    places = []
    for i, pair in enumerate(pairs):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise InputError(f"pairs[{i}]: a {type(pair).__name__} is no pair; give (text, image) or (image, text)")
        text, image = pair if isinstance(pair[0], str) else reversed(pair)
        (text,) = list_texts([text], f"pairs[{i}]")
        # Whether two images are equal is only asked of paths; others are kept, so that no other one gets their id.
        key = image if isinstance(image, str) else id(image)
        if key not in image_places:
            image_places[key] = len(images), image
            images += list_images([image], f"pairs[{i}]")
        places.append((image_places[key][0], text_places.setdefault(text, len(text_places))))
    if not places:
        raise InputError("pairs: there are none; give at least one")
    return Pairs(images, list(text_places), *torch.tensor(places).T)


def best_documents(margins: Tensor, top_k: int | None) -> list[RankedDocument]:
    """ITM logits of "match" less those of "no match" [documents] -> the top_k highest, highest first, with their
    probabilities; of equal ones the later document first. None, or more than there are: all."""
    places, found = best_of(margins[None], min(top_k or len(margins), len(margins)))
    return [RankedDocument(*one) for one in zip(places[0].tolist(), found[0].sigmoid().tolist(), strict=True)]
