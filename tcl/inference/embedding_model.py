"""A loaded model with an embedding space that images and texts share."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from tcl.data.texts.class_list import check_names, check_templates
from tcl.errors import InputError
from tcl.inference.class_guess import ClassGuess, check_k, guesses
from tcl.inference.embed import ROOM_FOR_TOKENS, Embedded, embed_images, embed_texts
from tcl.inference.images import ImageLike, encode_images, list_images
from tcl.inference.loaded_model import LoadedModel
from tcl.inference.retrieve import Retrieved, check_search, retrieve
from tcl.inference.texts import list_texts, tokenize_texts
from tcl.search.class_prompts import TEMPLATES, class_features, class_prompts
from tcl.search.pair_scores import MatchPairs
from tcl.search.rescore import Rescore


class EmbeddingModel(LoadedModel):
    """What `TCL` and `TwoTowers` have in common; `docs/python.md` shows every method.

    Images are paths, bytes, opened files, PIL images, numpy arrays, tensors (tcl.inference.arrays) or lists of them,
    texts strings or lists of them; n is their number, 1 for a single one. Every method works in batches, shows a
    progress bar where it takes long, and refuses what it cannot use with tcl.errors.InputError, one line that names it:
    a path that is no image, more than 100 million pixels, a text without words or with more than 1,000. Texts are
    cleaned as in training and cut to `pretrained.max_words` words and `pretrained.max_tokens` tokens, with a
    UserWarning.
    """

    def encode_image(self, images: ImageLike | Iterable[ImageLike]) -> np.ndarray:
        """Embeddings of images: float32 [n, embed_dim] (256 in the paper's models), rows of length 1."""
        features, _ = embed_images(self.student.encoders, self._encode(list_images(images)), self.hardware)
        return features

    def encode_text(self, texts: str | Iterable[str]) -> np.ndarray:
        """Embeddings of texts: float32 [n, embed_dim], rows of length 1. Its product with images' is their cosine."""
        return self.embed_texts(texts).features

    def embed_images(self, images: ImageLike | Iterable[ImageLike]) -> Embedded:
        """Images with their embeddings, as a query or corpus that `retrieve` need not encode again."""
        listed = list_images(images)
        encoded = self._encode(listed)
        features, tokens = embed_images(self.student.encoders, encoded, self.hardware, ROOM_FOR_TOKENS)
        return Embedded("images", listed, features, tokens)

    def embed_texts(self, texts: str | Iterable[str]) -> Embedded:
        """Texts with their embeddings, as a query or corpus that `retrieve` need not encode again."""
        listed = list_texts(texts)
        return Embedded("texts", listed, embed_texts(self.student.encoders, *self._tokenize(listed), self.hardware))

    def retrieve(
        self,
        query: Embedded | ImageLike | Iterable[ImageLike] | Iterable[str],
        corpus: Embedded | Iterable[ImageLike] | Iterable[str],
        k: int,
        *,
        candidates: int = 16,
        rescore: Rescore | None = None,
    ) -> Retrieved:
        """The k (1 to the corpus's size) best of a corpus for each query: images by text, or texts by image.

        query: strings are texts, PIL images and pathlib.Path images. corpus: of the other kind, there strings may be
        paths; `embed_images` or `embed_texts` make one to search again and again. A model that matches pairs orders the
        `candidates` (>= 1, at least k) best by embedding by their ITM score. Returns ids, cosines and the scores that
        decided, each [n, k], best first; equal ones rank the later id first. A corpus that is `Embedded.balanced`
        keeps its hubs from the first places. rescore: makes other scores of the
        cosines, which then choose the candidates and are returned in their place (tcl.search.rescore).
        InputError: query and corpus of one kind, k or candidates out of range, scores that cannot be ranked.
        """
        query = self._embed_query(query)
        if not isinstance(corpus, Embedded):
            corpus = self.embed_texts(corpus) if query.kind == "images" else self.embed_images(corpus)
        check_search(query, corpus, k, candidates)
        images, texts = (query, corpus) if query.kind == "images" else (corpus, query)
        return retrieve(query, corpus, k, candidates, self._second_stage(images, texts), rescore)

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
        prompts = self._tokenize(class_prompts(named, written), "prompts")
        of_prompts = embed_texts(self.student.encoders, *prompts, self.hardware)
        classes = class_features(torch.from_numpy(of_prompts), len(written))
        features, _ = embed_images(self.student.encoders, self._encode(listed), self.hardware)
        logits = torch.from_numpy(features) @ classes.T / self.student.temperature.detach().cpu()
        return guesses(logits, named, k)

    def _second_stage(self, images: Embedded, texts: Embedded) -> MatchPairs | None:
        """What scores pairs of these images and texts; None: the first stage decides."""
        return None

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

    def _encode(self, images: Sequence[ImageLike], name: str = "images") -> Iterator[Tensor]:
        return encode_images(
            self.student.encoders.image_encoder,
            self.transform,
            images,
            batch_size=self.batch_size,
            hardware=self.hardware,
            name=name,
        )

    def _tokenize(self, texts: Sequence[str], name: str = "texts") -> tuple[Tensor, Tensor]:
        known = self.pretrained
        return tokenize_texts(texts, known.tokenizer, max_words=known.max_words, max_tokens=known.max_tokens, name=name)
