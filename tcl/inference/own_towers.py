"""Embeddings by the encoders of a student that was trained here."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tcl.data.texts.captions import clean_caption
from tcl.data.texts.tokenize import tokenize
from tcl.inference.embed import embed_texts
from tcl.inference.embedding_model import EmbeddingModel
from tcl.inference.loaded_model import LoadedModel
from tcl.inference.texts import list_texts, tokenize_texts
from tcl.models.token_maker import hash_of_parts, preparation


class OwnTowers(EmbeddingModel, LoadedModel):
    """What `TCL` and `TwoTowers` have in common. Texts are cleaned as in training and cut to `pretrained.max_words`
    words and `pretrained.max_tokens` tokens."""

    @property
    def embed_dim(self) -> int:
        """Of its encoders: model.embed_dim as configured (256 in the paper's models), or all levels of a model with
        codes."""
        return self.student.encoders.embed_dim

    @cached_property
    def embedding_maker(self) -> str:
        """As `EmbeddingModel.embedding_maker`: of the whole student."""
        return hash_of_parts(preparation(self.student.encoders.image_encoder), [self.student])

    @property
    def temperature(self) -> float:
        """The learned one."""
        return self.student.temperature.item()

    @torch.no_grad()
    def embed_pixels(self, pixels: Tensor) -> Tensor:
        """As `EmbeddingModel.embed_pixels`."""
        with self.hardware.autocast():
            tokens = self.student.encoders.image_encoder(pixels.to(self.hardware.device))
        return self.embed_tokens(tokens)

    @torch.no_grad()
    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """All tokens of images [B, N, width], on the device -> fp32 [B, embed_dim], rows of length 1, on the host."""
        with self.hardware.autocast():
            return self.student.encoders.embed_images(tokens).cpu()

    def knows(self, text: str) -> bool:
        """As `EmbeddingModel.knows`."""
        ids, _ = self._tokenize(list_texts([text], "text"), "text")
        return any(one != self.pretrained.tokenizer.unk_token_id for one in ids[0, 1:].tolist())

    def clean_text(self, text: str) -> str:
        """As `tcl.data.texts.captions.clean_caption`."""
        return clean_caption(text, self.pretrained.max_words)

    def embed_cleaned(self, texts: Sequence[str]) -> tuple[np.ndarray, list[bool]]:
        """As `EmbeddingModel.embed_cleaned`."""
        ids, mask = tokenize(self.pretrained.tokenizer, list(texts), self.pretrained.max_tokens)
        read = mask[:, 1:].any(dim=1)  # what has no token: characters of no width, for one
        if not read.any():
            return np.empty((0, self.embed_dim), np.float32), read.tolist()
        return embed_texts(self.student.encoders.embed_ids, ids[read], mask[read], self.hardware), read.tolist()

    def _tokenize(self, texts: Sequence[str], name: str = "texts") -> tuple[Tensor, Tensor]:
        """Listed texts -> ids and mask [T, L], as `tcl.inference.texts.tokenize_texts`, which names the errors."""
        known = self.pretrained
        return tokenize_texts(texts, known.tokenizer, max_words=known.max_words, max_tokens=known.max_tokens, name=name)

    def _embed_listed(self, texts: Sequence[str], name: str = "texts") -> np.ndarray:
        return embed_texts(self.student.encoders.embed_ids, *self._tokenize(texts, name), self.hardware)
