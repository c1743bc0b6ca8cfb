"""What an index of images asks of models: a first stage that embeds images and queries, and a second that matches, if
there is one. They may be one model, whose image encoder then runs once for both. tcl.index.clip_stages answers the same
of a model of video, sound and text."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tcl.errors import InputError
from tcl.index.image_reader import IMAGE, ImageReader
from tcl.index.read_item import Seen
from tcl.inference.compressed_model import TCLForCompressedRetrieval
from tcl.inference.embedding_model import EmbeddingModel
from tcl.inference.heat_map import HeatMap
from tcl.inference.images import ImageLike, list_images, read_image
from tcl.inference.load_model import check_embeds, is_of_clips, load_matcher, load_model
from tcl.inference.matcher import Matcher
from tcl.inference.tcl_model import TCL
from tcl.search.match_stored import TokenStore

if TYPE_CHECKING:
    from tcl.inference.clips_model import TCLForClips


class Stages:
    """Loaded models, and where they were loaded from."""

    what = "images"
    """What they find."""
    plays = False
    """Is any of it played?"""

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
    def embed_dim(self) -> int:
        """Numbers of a row."""
        return self.model.embed_dim

    @property
    def text_dim(self) -> int:
        """Numbers of a text, as `tcl encode` embeds it."""
        return self.model.embed_dim

    @property
    def batch_size(self) -> int:
        """Files that are read together."""
        return self.model.batch_size

    @property
    def reader(self) -> ImageReader:
        """Of what is indexed, and of queries."""
        own = (self.model.transform,)
        matched = () if self.matcher is None or self.matcher is self.model else (self.matcher.transform,)
        return ImageReader(own + matched)

    def encode(self, modality: str, inputs: tuple[Tensor, ...], *, tokens: bool) -> tuple[np.ndarray, Tensor | None]:
        """Of n items what `reader` saw of each, stacked, on the host -> rows float32 [n, embed_dim], of length 1, and,
        if asked for, tokens fp32 [n, N, W]; on the host."""
        if not tokens:
            return self.model.embed_pixels(inputs[0]).numpy(), None
        whole = self._image_tokens(inputs[-1])
        if self.matcher is self.model and isinstance(self.model, TCL):
            features = self.model.embed_tokens(whole)
        else:
            features = self.model.embed_pixels(inputs[0])
        return features.numpy(), self.matcher.compress_tokens(whole).cpu()

    def knows(self, text: str) -> bool:
        """As `EmbeddingModel.knows`."""
        return self.model.knows(text)

    def check_text(self, text: str) -> None:
        """InputError: a query without any word that the model knows."""
        if not self.model.knows(text):
            raise InputError(f"text: {text!r} has no word that this model knows; give others")

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Queries, that `check_text` took -> float32 [n, embed_dim], rows of length 1."""
        return self.model.encode_text(texts)

    def see(self, image: ImageLike) -> Seen:
        """A query, as people have it. InputError: no image."""
        (listed,) = list_images([image])
        return Seen(IMAGE, (self.model.transform(read_image(listed, "images[0]")),))

    def embed_seen(self, queries: Sequence[Seen]) -> np.ndarray:
        """Of each what `see` or `reader` gave -> float32 [n, embed_dim], rows of length 1: what is asked with, and what
        the index has of it."""
        size = self.model.batch_size
        starts = range(0, len(queries), size)
        pixels = [one.inputs[0] for one in queries]
        return np.concatenate(
            [self.model.embed_pixels(torch.stack(list(pixels[i : i + size]))).numpy() for i in starts]
        )

    def like(self, rows: np.ndarray) -> np.ndarray:
        """Rows of the index [n, embed_dim] -> the same as what is asked with for items like these."""
        return rows

    def together(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """What is asked with, [embed_dim] each, one at least -> all of it as one: their mean, of length 1."""
        mean = np.mean(parts, axis=0)
        return mean / max(np.linalg.norm(mean), np.finfo(np.float32).tiny)

    def bank_rows(self, bank: np.ndarray) -> np.ndarray | None:
        """Embeddings of texts [n, D], as `tcl encode` gives them -> what `embed_texts` gives of these; None: they are
        those of another model."""
        return bank if bank.shape[1] == self.embed_dim else None

    def match(self, tokens: TokenStore, images: Tensor, texts: Sequence[str], text_of: Tensor) -> Tensor:
        """Pairs image by image, of images [P] of `tokens` and texts [P] (indices into `texts`) -> log-odds [P], fp32,
        on the host, that the text belongs to the image."""
        logits = self.matcher.match_stored_pairs(tokens, self.matcher.read_texts(texts), images, text_of)
        return logits[:, 1] - logits[:, 0]

    def match_pixels(
        self, pixels: Sequence[Tensor], texts: Sequence[str], texts_of_image: Sequence[Tensor]
    ) -> list[Tensor]:
        """As `match`, of images that no index knows: of each the last that `reader` saw, and its texts [R]
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
    model: "EmbeddingModel | TCLForClips | str | Path",
    matcher: Matcher | str | Path | None = None,
    *,
    revision: str | None = None,
    device: str | None = None,
    precision: str = "auto",
    batch_size: int = 32,
) -> Stages:
    """What has the methods of Stages, for a model of any kind that embeds.

    model, matcher: loaded already, or from where. matcher: what else is to match than the model itself. The other
    arguments are those of `tcl.load_model`, the revision that of the model.

    InputError: nothing to load there, a model that does not embed, a matcher that does not match.
    """
    options = {"device": device, "precision": precision, "batch_size": batch_size}
    source, matcher_source = _source_of(model), None if matcher is None else _source_of(matcher)
    if isinstance(model, str | Path):
        model = load_model(model, revision=revision, **options)
    if is_of_clips(model):
        from tcl.index.clip_stages import ClipStages

        if matcher is not None:
            raise InputError(f"matcher: {source} is a model of clips, which nothing matches with texts; leave it out")
        return ClipStages(model, source)
    model = check_embeds(model, source)
    if matcher is not None and not isinstance(matcher, Matcher):
        matcher = load_matcher(matcher, **options)
    return Stages(model, source, matcher, matcher_source)


def _source_of(model: "EmbeddingModel | TCLForClips | Matcher | str | Path") -> str:
    return str(model) if isinstance(model, str | Path) else f"a {type(model).__name__}"
