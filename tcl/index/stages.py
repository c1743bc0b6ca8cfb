"""What an index asks of a model: embeddings of images and queries, and, of one that matches, tokens and scores."""

from typing import Protocol

import numpy as np
from torch import Tensor

from tcl.index.own_stages import OwnStages
from tcl.index.photo import Prepare
from tcl.inference.embedding_model import EmbeddingModel
from tcl.inference.images import ImageLike


class Stages(Protocol):
    """A first stage, and a second where `token_shape` is given. They may be one model, or two."""

    source: str
    """Where it was loaded from."""
    fingerprint: str
    """Hash of the weights: what one index holds is all of the same."""
    width: int
    """D: numbers of an embedding."""
    token_shape: tuple[int, int] | None
    """N tokens of an image, of W numbers each, which are all that matching needs of it; None: it does not match."""
    codebooks: np.ndarray | None
    """float32 [P, K, d], P d = D, of a model whose embeddings are kept as codes; None: of another."""
    batch_size: int
    """Images in one forward pass."""
    prepare: Prepare
    """Called by worker processes, to which it is sent: it holds no network."""

    def encode(self, pixels: tuple[Tensor, ...], *, tokens: bool) -> tuple[np.ndarray, Tensor | None]:
        """Of n images, what `prepare` gave of each, stacked, on the host -> float32 [n, D], rows of length 1, and, if
        asked for, tokens fp32 [n, N, W]; on the host."""

    def embed_text(self, text: str) -> np.ndarray:
        """A query, float32 [D] of length 1. InputError: no word that is known."""

    def embed_image(self, image: ImageLike) -> np.ndarray:
        """A query, float32 [D] of length 1. InputError: no image."""

    def match(self, tokens: Tensor, text: str) -> Tensor:
        """Tokens fp32 [n, N, W], on the host -> log-odds [n], fp32, there, that the text belongs to each image."""


def open_stages(
    source: str,
    *,
    revision: str | None = None,
    device: str | None = None,
    precision: str = "auto",
    batch_size: int = 32,
) -> Stages:
    """Arguments as those of `TCL.from_pretrained`. InputError: nothing to load there, or nothing that embeds."""
    options = {"revision": revision, "device": device, "precision": precision, "batch_size": batch_size}
    return OwnStages(EmbeddingModel.from_pretrained(source, **options), str(source))


def stages_of(model: "EmbeddingModel | Stages", source: str) -> Stages:
    """Of a loaded model; what is a `Stages` already stays."""
    return OwnStages(model, source) if isinstance(model, EmbeddingModel) else model
