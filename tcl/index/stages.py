"""What an index asks of models: a first stage that embeds images and queries, and a second that matches, if there is
one. They may be one model, whose image encoder then runs once for both."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tcl.errors import InputError
from tcl.index.photo import Prepare
from tcl.inference.compressed_model import TCLForCompressedRetrieval
from tcl.inference.embedding_model import EmbeddingModel
from tcl.inference.heat_map import HeatMap
from tcl.inference.images import ImageLike, Transform, list_images, read_image
from tcl.inference.load_model import load_embedding_model, load_matcher
from tcl.inference.matcher import Matcher
from tcl.inference.tcl_model import TCL
from tcl.search.match_stored import TokenStore


class Stages:
    """Loaded models, and where they were loaded from."""

    def __init__(
        self, model: EmbeddingModel, source: str, matcher: Matcher | None = None, matcher_source: str | None = None
    ):
        """matcher: None: the model itself, where it matches."""
        self.model, self.source = model, source
        self.matcher = model if matcher is None and isinstance(model, Matcher) else matcher
        self.matcher_source = matcher_source

    @property
    def embedding_maker(self) -> str:
        """As `EmbeddingModel.embedding_maker`."""
        return self.model.embedding_maker

    @property
    def token_maker(self) -> str | None:
        """As `Matcher.token_maker`; None: nothing matches."""
        return None if self.matcher is None else self.matcher.token_maker

    @property
    def token_shape(self) -> tuple[int, int] | None:
        """N tokens of an image, of W numbers each, which are all that matching needs of it; None: nothing matches."""
        return None if self.matcher is None else self.matcher.token_shape

    @property
    def codebooks(self) -> np.ndarray | None:
        """float32 [P, K, d], P d = embed_dim, of a model whose embeddings are kept as codes; None: of another."""
        if not isinstance(self.model, TCLForCompressedRetrieval):
            return None
        books = self.model.codebooks
        return books.reshape(-1, *books.shape[2:])

    @property
    def prepare(self) -> Prepare:
        """Called by worker processes, to which it is sent: it holds no network."""
        if self.matcher is None or self.matcher is self.model:
            return partial(_prepare, (self.model.transform,))
        return partial(_prepare, (self.model.transform, self.matcher.transform))

    def encode(self, pixels: tuple[Tensor, ...], *, tokens: bool) -> tuple[np.ndarray, Tensor | None]:
        """Of n images, what `prepare` gave of each, stacked, on the host -> float32 [n, embed_dim], rows of length 1,
        and, if asked for, tokens fp32 [n, N, W]; on the host."""
        if not tokens:
            return self.model.embed_pixels(pixels[0]).numpy(), None
        whole = self._image_tokens(pixels[-1])
        if self.matcher is self.model and isinstance(self.model, TCL):
            features = self.model.embed_tokens(whole)
        else:
            features = self.model.embed_pixels(pixels[0])
        return features.numpy(), self.matcher.compress_tokens(whole).cpu()

    def check_text(self, text: str) -> None:
        """InputError: a query without any word that the model knows."""
        if not self.model.knows(text):
            raise InputError(f"text: {text!r} has no word that this model knows; give others")

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Queries, that `check_text` took -> float32 [n, embed_dim], rows of length 1."""
        return self.model.encode_text(texts)

    def read_image(self, image: ImageLike) -> Tensor:
        """A query -> [3, height, width], as the first stage takes it. InputError: no image."""
        (listed,) = list_images([image])
        return self.model.transform(read_image(listed, "images[0]"))

    def embed_images(self, pixels: Sequence[Tensor]) -> np.ndarray:
        """Of each query what `read_image` gave -> float32 [n, embed_dim], rows of length 1."""
        size = self.model.batch_size
        starts = range(0, len(pixels), size)
        return np.concatenate(
            [self.model.embed_pixels(torch.stack(list(pixels[i : i + size]))).numpy() for i in starts]
        )

    def match(self, tokens: TokenStore, images: Tensor, texts: Sequence[str], text_of: Tensor) -> Tensor:
        """Pairs image by image, of images [P] of `tokens` and texts [P] (indices into `texts`) -> log-odds [P], fp32,
        on the host, that the text belongs to the image."""
        logits = self.matcher.match_stored_pairs(tokens, self.matcher.read_texts(texts), images, text_of)
        return logits[:, 1] - logits[:, 0]

    def match_pixels(
        self, pixels: Sequence[Tensor], texts: Sequence[str], texts_of_image: Sequence[Tensor]
    ) -> list[Tensor]:
        """As `match`, of images that no index knows: of each what the last of `prepare` gave, and its texts [R]
        (indices into `texts`) -> log-odds [R] of each."""
        states, size = self.matcher.read_texts(texts), self.matcher.batch_size
        batches = (self._image_tokens(torch.stack(list(pixels[i : i + size]))) for i in range(0, len(pixels), size))
        logits = self.matcher.match_tokens(batches, states, texts_of_image)
        return [own[:, 1] - own[:, 0] for own in logits]

    @property
    def explains(self) -> bool:
        """Whether the matcher can say which parts of an image speak for a text."""
        return isinstance(self.matcher, TCL)

    def explain(self, image: ImageLike, text: str) -> HeatMap:
        """As `TCL.explain`."""
        return self.matcher.explain(image, text)

    @torch.no_grad()
    def _image_tokens(self, pixels: Tensor) -> Tensor:
        hardware = self.matcher.hardware
        with hardware.autocast():
            return self.matcher.image_tokens(pixels.to(hardware.device))


def open_stages(
    model: EmbeddingModel | str | Path,
    matcher: Matcher | str | Path | None = None,
    *,
    revision: str | None = None,
    device: str | None = None,
    precision: str = "auto",
    batch_size: int = 32,
) -> Stages:
    """model, matcher: loaded already, or from where. matcher: what else is to match than the model itself. The other
    arguments are those of `tcl.load_model`, the revision that of the model.

    InputError: nothing to load there, a model that does not embed, a matcher that does not match.
    """
    options = {"device": device, "precision": precision, "batch_size": batch_size}
    source, matcher_source = _source_of(model), None if matcher is None else _source_of(matcher)
    if not isinstance(model, EmbeddingModel):
        model = load_embedding_model(model, revision=revision, **options)
    if matcher is not None and not isinstance(matcher, Matcher):
        matcher = load_matcher(matcher, **options)
    return Stages(model, source, matcher, matcher_source)


def _source_of(model: EmbeddingModel | Matcher | str | Path) -> str:
    return str(model) if isinstance(model, str | Path) else f"a {type(model).__name__}"


def _prepare(transforms: Sequence[Transform], rgb: np.ndarray) -> tuple[Tensor, ...]:
    return tuple(transform(rgb) for transform in transforms)
