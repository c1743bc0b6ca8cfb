"""A loaded model that keeps images and texts as codes: what a TCL does, and the codes."""

from collections.abc import Iterable

import numpy as np
import torch

from tcl.inference.images import ImageLike
from tcl.inference.tcl_model import TCL
from tcl.search.codes import codebooks_hash


class TCLForCompressedRetrieval(TCL):
    """A model fine-tuned on retrieval from codes; `docs/python.md` shows it.

    Embeddings are those of its heads, all levels side by side, float32 [n, (1 + levels) dim], rows of length 1: queries
    of `tcl.search.code_index.search_index`.
    """

    @property
    def codebooks(self) -> np.ndarray:
        """float32 [1 + levels, parts, codewords, dim / parts], words of length 1."""
        return self.student.encoders.heads.quantiser.codewords.detach().cpu().numpy()

    @property
    def codebooks_hash(self) -> str:
        """By which codes know them."""
        return codebooks_hash(torch.from_numpy(self.codebooks))

    def codes_of(self, embeddings: np.ndarray) -> np.ndarray:
        """Embeddings float32 [n, (1 + levels) dim] of this model -> their codes, uint8 [n, 1 + levels, parts]."""
        return self.student.encoders.codes_of(torch.from_numpy(embeddings).to(self.hardware.device)).cpu().numpy()

    def encode_image_codes(self, images: ImageLike | Iterable[ImageLike]) -> np.ndarray:
        """Codes of images: uint8 [n, 1 + levels, parts]."""
        return self.codes_of(self.encode_image(images))

    def encode_text_codes(self, texts: str | Iterable[str]) -> np.ndarray:
        """Codes of texts: uint8 [n, 1 + levels, parts]."""
        return self.codes_of(self.encode_text(texts))
