"""A model of clips as one that embeds one modality to be compared with one other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tcl.inference.clips_model import TCLForClips


@dataclass(frozen=True)
class OneSpace:
    """InputError of `open`, naming the option `to`: two that this model does not compare."""

    model: TCLForClips
    modality: str
    space: str

    @classmethod
    def open(cls, model: TCLForClips, modality: str, to: str) -> "OneSpace":
        """As encode_video, encode_audio and encode_text have them."""
        return cls(model, modality, model.space_of(modality, to))

    @property
    def embed_dim(self) -> int:
        """Of the space."""
        return self.model.student.averaged.spaces.dims[self.space]

    @property
    def batch_size(self) -> int:
        """Files that are read together."""
        return self.model.files_a_batch(self.modality)

    def clean_text(self, text: str) -> str:
        """As `TCLForClips.clean_text`."""
        return self.model.clean_text(text)

    def embed_files(self, inputs: tuple[Tensor, ...]) -> np.ndarray:
        """Of n files what `model.reader` gave, stacked -> float32 [n, embed_dim], rows of length 1."""
        return self.model.embed_read(self.modality, inputs)[self.space]

    def embed_cleaned(self, texts: Sequence[str]) -> tuple[np.ndarray, list[bool]]:
        """As `TCLForClips.embed_cleaned`, float32 [those with any token, embed_dim]."""
        found, read = self.model.embed_cleaned(texts)
        return found.get(self.space, np.empty((0, self.embed_dim), np.float32)), read
