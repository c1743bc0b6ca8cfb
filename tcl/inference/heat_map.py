"""Which parts of an image speak for a text: Grad-CAM on the fusion encoder's cross-attention (ALBEF section 5).

How much each word looks at each patch in one fusion layer, times how much looking there raises the ITM logit of "match"
(where that is negative, 0), averaged over the heads.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tcl.errors import InputError
from tcl.evaluation.overlay import overlay
from tcl.models.grad_cam import layer_to_watch, match_maps
from tcl.objectives.tcl import TCLStudent


@dataclass(frozen=True)
class HeatMap:
    """What an image's patches contribute to its match with a text."""

    image: Image.Image
    """RGB, which the map covers from edge to edge."""
    words: list[str]
    """The W tokens of the text, without [CLS], as people write them."""
    of_words: np.ndarray
    """[W, rows, columns] float32, >= 0: the map of each token."""
    of_cls: np.ndarray
    """[rows, columns] float32, >= 0: the map of [CLS], which no word is."""

    @property
    def values(self) -> np.ndarray:
        """[rows, columns] float32, >= 0: the mean over the tokens."""
        return self.of_words.mean(axis=0)

    @property
    def published(self) -> np.ndarray:
        """[rows, columns] float32, >= 0: the mean over the tokens and [CLS], as ALBEF's code has it for grounding."""
        return np.concatenate([self.of_cls[None], self.of_words]).mean(axis=0)

    def save(self, path: str | Path, word: int | None = None, *, published: bool = False) -> None:
        """Write the image under its heat map as a PNG. word: that of one token, its place in `words`; None: `values`,
        or `published` where that is asked for.

        InputError: no such word, a path that does not end in .png, or where nothing can be written.
        """
        if word is not None and not 0 <= word < len(self.words):
            raise InputError(f"word: {word} of {len(self.words)}; accepted: 0 to {len(self.words) - 1}")
        if Path(path).suffix.lower() != ".png":
            raise InputError(f"path: {str(path)!r}; give a name that ends in .png")
        whole = self.published if published else self.values
        try:
            overlay(self.image, whole if word is None else self.of_words[word]).save(path, "PNG")
        except OSError as error:
            raise InputError(f"path: {str(path)!r} cannot be written ({error.strerror})") from error


def fusion_layer(layers: int, asked: int | None) -> int:
    """The layer to look at, 0 to layers - 1; None: the third of six, as published, or its like. InputError: no such."""
    return layer_to_watch(layers, asked, (layers - 1) // 2, "layer", "the fusion encoder")


def grad_cam(student: TCLStudent, image_tokens: Tensor, input_ids: Tensor, layer: int) -> Tensor:
    """Contribution of patches to tokens' match: image_tokens [1, 1 + patches, width], ids [1, L] -> [L, patches], >= 0.

    layer: 0 to fusion layers - 1. In fp32, and no parameter gets a gradient. Where the fusion encoder looks at few
    tokens, each passes what it contributes on to the patches, in the shares in which it looks at them.
    """
    own, whole = torch.zeros(1, dtype=torch.int64, device=input_ids.device), torch.ones_like(input_ids)
    return match_maps(student.encoders, student.itm_head, image_tokens, input_ids, whole, own, layer)[0]
