"""A model of clips as one that embeds one modality to be compared with one other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tcl.data.feed.file_stream import Decode
from tcl.data.texts.captions import clean_caption
from tcl.inference.clip_spaces import space_between
from tcl.inference.clips_model import TCLForClips
from tcl.inference.embed_clips import embed_cleaned, embed_read, files_a_batch, reader_of, sample_reader_of


@dataclass(frozen=True)
class OneSpace:
    """Of `modality`."""

    model: TCLForClips
    modality: str
    space: str

    @classmethod
    def open(cls, model: TCLForClips, modality: str, to: str) -> "OneSpace":
        """As encode_video, encode_audio and encode_text have them. InputError, naming `to`: two that this model does
        not compare."""
        return cls(model, modality, space_between(model.student, modality, to))

    @property
    def embed_dim(self) -> int:
        """Of the space."""
        return self.model.student.averaged.spaces.dims[self.space]

    @property
    def batch_size(self) -> int:
        """Files that are read together."""
        return files_a_batch(self.model, self.modality)

    @property
    def reader(self) -> Decode:
        """As `tcl.inference.embed_clips.reader_of`."""
        return reader_of(self.model, self.modality)

    @property
    def sample_reader(self) -> Decode:
        """As `tcl.inference.embed_clips.sample_reader_of`."""
        return sample_reader_of(self.model, self.modality)

    def embed_files(self, inputs: tuple[Tensor, ...]) -> np.ndarray:
        """Of n files what `reader` gave, stacked -> float32 [n, embed_dim], rows of length 1."""
        return embed_read(self.model, self.modality, inputs)[self.space]

    def clean_text(self, text: str) -> str:
        """As in training; may come out empty."""
        return clean_caption(text, self.model.pretrained.max_words)

    def embed_cleaned(self, texts: Sequence[str]) -> tuple[np.ndarray, list[bool]]:
        """T texts of `clean_text` -> float32 [those with any token, embed_dim], rows of length 1, and which these
        are."""
        found, read = embed_cleaned(self.model, texts)
        return found.get(self.space, np.empty((0, self.embed_dim), np.float32)), read
