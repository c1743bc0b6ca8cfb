"""A CLIP or SigLIP of transformers that others trained, loaded to embed images and texts."""

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tcl.config.checks import require
from tcl.foreign.pictures import preparation
from tcl.foreign.towers import Towers, image_features, load_towers, temperature, text_features
from tcl.inference.embed import embed_texts
from tcl.inference.embedding_model import EmbeddingModel
from tcl.inference.hardware import Precision, find_hardware
from tcl.models.token_maker import hash_of_parts


class ForeignTowers(EmbeddingModel):
    """Embeddings, `retrieve` and `classify` by whatever model of transformers has `get_image_features` and
    `get_text_features`; `docs/python.md` shows it. Images and texts are prepared by what lies beside its weights."""

    def __init__(
        self,
        towers: Towers,
        *,
        device: str | torch.device | None = None,
        precision: Precision = "auto",
        batch_size: int = 32,
    ):
        """Arguments as in `from_pretrained`."""
        require(batch_size >= 1, "batch_size", batch_size, "1 or more")
        self.towers = towers
        self.precision = precision
        self.batch_size = batch_size
        self.transform = towers.transform
        self.to(device)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device | None = None,
        precision: Precision = "auto",
        batch_size: int = 32,
    ) -> "ForeignTowers":
        """Load a folder or hub id as transformers saves them; no code beside it is run. The arguments are those of
        tcl.TCL. InputError: another kind of model, weights or processors that are not there."""
        towers = load_towers(str(source), revision)
        return cls(towers, device=device, precision=precision, batch_size=batch_size)

    def to(self, device: str | torch.device | None) -> "ForeignTowers":
        """Move to a device, as in `from_pretrained`; returns itself."""
        self.hardware = find_hardware(device, self.precision)
        self.towers.network.to(self.hardware.device)
        return self

    @property
    def embed_dim(self) -> int:
        """512 in CLIP ViT-B/32."""
        return self.towers.embed_dim

    @cached_property
    def embedding_maker(self) -> str:
        """As `EmbeddingModel.embedding_maker`."""
        return hash_of_parts(preparation(self.transform), [self.towers.network])

    @property
    def temperature(self) -> float:
        """1 / e^logit_scale."""
        return temperature(self.towers.network)

    def embed_pixels(self, pixels: Tensor) -> Tensor:
        """As `EmbeddingModel.embed_pixels`."""
        with self.hardware.autocast():
            return image_features(self.towers.network, pixels.to(self.hardware.device)).cpu()

    def knows(self, text: str) -> bool:
        """As `EmbeddingModel.knows`."""
        return self.towers.reader.knows(text)

    def clean_text(self, text: str) -> str:
        """Single spaces; the tokenizer does what else there is to do."""
        return self.towers.reader.clean(text)

    def embed_cleaned(self, texts: Sequence[str]) -> tuple[np.ndarray, list[bool]]:
        """As `EmbeddingModel.embed_cleaned`."""
        found = self.towers.reader.tokenize(texts)
        if not any(found.has_words):
            return np.empty((0, self.embed_dim), np.float32), found.has_words
        read = torch.tensor(found.has_words)
        return self._embed_ids(found.ids[read], found.mask[read]), found.has_words

    def _embed_listed(self, texts: Sequence[str], name: str = "texts") -> np.ndarray:
        return self._embed_ids(*self.towers.reader.read(texts, name))

    def _embed_ids(self, ids: Tensor, mask: Tensor) -> np.ndarray:
        return embed_texts(partial(text_features, self.towers.network), ids, mask, self.hardware)
