"""A loaded model with an embedding space that images and texts share."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from tcl.data.texts.class_list import check_names, check_templates
from tcl.data.tokens.stored_tokens import Storage
from tcl.errors import InputError
from tcl.inference.class_guess import ClassGuess, check_k, guesses
from tcl.inference.embed import ROOM_FOR_TOKENS, Embedded, keep_tokens
from tcl.inference.hardware import Hardware
from tcl.inference.images import ImageLike, Transform, encode_images, list_images
from tcl.inference.matcher import Matcher, second_stage
from tcl.inference.retrieve import Retrieved, check_search, retrieve
from tcl.inference.texts import list_texts
from tcl.search.class_prompts import TEMPLATES, class_features, class_prompts
from tcl.search.rescore import Rescore

Taken = TypeVar("Taken")


class EmbeddingModel(ABC):
    """What `TCL`, `TwoTowers` and `ForeignTowers` have in common; `docs/python.md` shows every method.

    Images are paths, bytes, opened files, PIL images, numpy arrays, tensors (tcl.inference.arrays) or lists of them,
    texts strings or lists of them; n is their number, 1 for a single one. Every method works in batches, shows a
    progress bar where it takes long, and refuses what it cannot use with tcl.errors.InputError, one line that names it:
    a path that is no image, more than 100 million pixels, a text without words or with more than 1,000. Texts that are
    longer than the model reads are cut, with a UserWarning.
    """

    transform: Transform
    hardware: Hardware
    batch_size: int

    @property
    @abstractmethod
    def embed_dim(self) -> int:
        """How many numbers an embedding has."""

    @property
    @abstractmethod
    def embedding_maker(self) -> str:
        """Hash of the weights and of how images are prepared for them."""

    @property
    @abstractmethod
    def temperature(self) -> float:
        """By which training divided cosines, > 0."""

    @property
    def _matcher(self) -> Matcher | None:
        """What orders the candidates of `retrieve` where no other is given; None: the embeddings alone."""
        return None

    @abstractmethod
    def embed_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels [B, 3, height, width] of `transform`, on the host -> fp32 [B, embed_dim], rows of length 1, there."""

    @abstractmethod
    def knows(self, text: str) -> bool:
        """Whether the tokenizer has a token for any part of a text. InputError: a text without words."""

    @abstractmethod
    def clean_text(self, text: str) -> str:
        """As the model was trained to read it; may come out empty."""

    @abstractmethod
    def embed_cleaned(self, texts: Sequence[str]) -> tuple[np.ndarray, list[bool]]:
        """T texts of `clean_text` -> float32 [those with any token, embed_dim], rows of length 1, and which these are.

        What is longer than the model reads is cut.
        """

    @abstractmethod
    def _embed_listed(self, texts: Sequence[str], name: str = "texts") -> np.ndarray:
        """Listed texts, not cleaned -> float32 [T, embed_dim]. InputError, naming `name`: a text without words."""

    def encode_image(self, images: ImageLike | Iterable[ImageLike]) -> np.ndarray:
        """Embeddings of images: float32 [n, embed_dim] (256 in the paper's models), rows of length 1."""
        batches = encode_images(
            self.embed_pixels, self.transform, list_images(images), batch_size=self.batch_size, hardware=self.hardware
        )
        return torch.cat(list(batches)).numpy()

    def encode_text(self, texts: str | Iterable[str]) -> np.ndarray:
        """Embeddings of texts: float32 [n, embed_dim], rows of length 1. Its product with images' is their cosine."""
        return self.embed_texts(texts).features

    def embed_images(self, images: ImageLike | Iterable[ImageLike], *, matcher: Matcher | None = None) -> Embedded:
        """Images with their embeddings, as a query or corpus that `retrieve` need not encode again.

        matcher: keep what this one needs of them; None: what the model's own needs, where it has one.
        """
        listed = list_images(images)
        matcher = self._matcher if matcher is None else matcher
        if matcher is None:
            return Embedded("images", listed, self.encode_image(listed))
        features, tokens = self._embed_for(matcher, listed, partial(keep_tokens, room=ROOM_FOR_TOKENS))
        return Embedded("images", listed, features, tokens, tokens_of=matcher)

    def store_tokens(
        self,
        images: ImageLike | Iterable[ImageLike],
        path: str | Path,
        *,
        storage: Storage = "int8",
        matcher: Matcher | None = None,
    ) -> Embedded:
        """Write what a matcher looks at in n images into the file `path`, in fp16 or int8 (with a scale for each
        token); returns them with their embeddings, as a corpus that `retrieve` with this matcher never encodes again.

        matcher: None: the model itself, where it matches pairs. N tokens an image: model.fusion.image_tokens of a TCL,
        or all of them; int8 takes N x (width + 4) bytes. They are written as they come. InputError: no matcher, no
        storage of that name, a file that cannot be written.
        """
        matcher = self._matcher if matcher is None else matcher
        if matcher is None:
            raise InputError(
                f"matcher: there is none, and a {type(self).__name__} does not match texts with images; give a TCL or "
                f"a BlipMatcher, whose tokens are to be stored"
            )
        listed = list_images(images)
        features, stored = self._embed_for(matcher, listed, partial(matcher.write_tokens, path=path, storage=storage))
        return Embedded("images", listed, features, stored=stored)

    def embed_texts(self, texts: str | Iterable[str]) -> Embedded:
        """Texts with their embeddings, as a query or corpus that `retrieve` need not encode again."""
        listed = list_texts(texts)
        return Embedded("texts", listed, self._embed_listed(listed))

    def retrieve(
        self,
        query: Embedded | ImageLike | Iterable[ImageLike] | Iterable[str],
        corpus: Embedded | Iterable[ImageLike] | Iterable[str],
        k: int,
        *,
        candidates: int = 16,
        matcher: Matcher | None = None,
        rescore: Rescore | None = None,
    ) -> Retrieved:
        """The k (1 to the corpus's size) best of a corpus for each query: images by text, or texts by image.

        query: strings are texts, PIL images and pathlib.Path images. corpus: of the other kind, there strings may be
        paths; `embed_images` or `embed_texts` make one to search again and again. matcher: orders the `candidates` (>=
        1, at least k) best by embedding by their ITM score; None: the model itself, where it matches pairs. Returns
        ids, cosines and the scores that decided, each [n, k], best first; equal ones rank the later id first. A corpus
        that is `Embedded.balanced` keeps its hubs from the first places. rescore: makes other scores of the cosines,
        which then choose the candidates and are returned in their place (tcl.search.rescore).
        InputError: query and corpus of one kind, k or candidates out of range, scores that cannot be ranked.
        """
        query = self._embed_query(query)
        if not isinstance(corpus, Embedded):
            corpus = self.embed_texts(corpus) if query.kind == "images" else self.embed_images(corpus)
        check_search(query, corpus, k, candidates)
        images, texts = (query, corpus) if query.kind == "images" else (corpus, query)
        matcher = self._matcher if matcher is None else matcher
        match = None if matcher is None else second_stage(matcher, images, texts)
        return retrieve(query, corpus, k, candidates, match, rescore)

    def classify(
        self,
        images: ImageLike | Iterable[ImageLike],
        names: Iterable[str],
        *,
        templates: str | Iterable[str] = TEMPLATES,
        k: int = 5,
    ) -> list[list[ClassGuess]]:
        """The k (>= 1) of the classes `names` that each of n images most probably shows; all, where there are fewer.

        templates: texts with {} where the name goes; a class is the mean of its prompts' embeddings, and probabilities
        are the softmax of cosines over the trained temperature. InputError: a name that is there twice, a template
        without {}, k out of range.
        """
        listed, named, written = list_images(images), list_texts(names, "names"), list_texts(templates, "templates")
        check_names(named, "names")
        check_templates(written, "templates")
        check_k(k)
        prompts = self._embed_listed(class_prompts(named, written), "prompts")
        classes = class_features(torch.from_numpy(prompts), len(written))
        return guesses(torch.from_numpy(self.encode_image(listed)) @ classes.T / self.temperature, named, k)

    def _embed_for(
        self, matcher: Matcher, images: list[ImageLike], take: Callable[[Iterator[Tensor]], Taken]
    ) -> tuple[np.ndarray, Taken]:
        """Embeddings of listed images, and what `take` makes of the matcher's tokens of them, which come in batches; it
        may leave the last of these."""
        taken = take(matcher.encode_tokens(images))
        return self.encode_image(images), taken

    def _embed_query(self, query: Embedded | ImageLike | Iterable[ImageLike] | Iterable[str]) -> Embedded:
        if isinstance(query, Embedded):
            return query
        if isinstance(query, str):
            return self.embed_texts(query)
        listed = list_images(query, "query")
        strings = [isinstance(one, str) for one in listed]
        if any(strings) and not all(strings):
            raise InputError("query: texts (strings) and images (PIL images, pathlib.Path) in one list; give one kind")
        return self.embed_texts(listed) if all(strings) else self.embed_images(listed)
