"""Which parts of an image speak for a text: Grad-CAM on the fusion encoder's cross-attention (ALBEF section 5).

How much each word looks at each patch in one fusion layer, times how much looking there raises the ITM logit of "match"
(where that is negative, 0), averaged over the heads.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from tcl.errors import InputError
from tcl.objectives.tcl import TCLStudent

COLOURS = colormaps["inferno"]
STRONGEST = 0.7
"""Share of the colour where the map is highest; where it is 0 the image shows as it is."""


@dataclass(frozen=True)
class HeatMap:
    """What an image's patches contribute to its match with a text."""

    image: Image.Image
    """RGB, which the map covers from edge to edge."""
    words: list[str]
    """The W tokens of the text, without [CLS], as people write them."""
    of_words: np.ndarray
    """[W, rows, columns] float32, >= 0: the map of each token."""

    @property
    def values(self) -> np.ndarray:
        """[rows, columns] float32, >= 0: the mean over the tokens."""
        return self.of_words.mean(axis=0)

    def save(self, path: str | Path, word: int | None = None) -> None:
        """Write the image under its heat map as a PNG. word: that of one token, its place in `words`; None: the mean.

        InputError: no such word, a path that does not end in .png, or where nothing can be written.
        """
        if word is not None and not 0 <= word < len(self.words):
            raise InputError(f"word: {word} of {len(self.words)}; accepted: 0 to {len(self.words) - 1}")
        if Path(path).suffix.lower() != ".png":
            raise InputError(f"path: {str(path)!r}; give a name that ends in .png")
        try:
            overlay(self.image, self.values if word is None else self.of_words[word]).save(path, "PNG")
        except OSError as error:
            raise InputError(f"path: {str(path)!r} cannot be written ({error.strerror})") from error


def fusion_layer(layers: int, asked: int | None) -> int:
    """The layer to look at, 0 to layers - 1; None: the third of six, as published, or its like. InputError: no such."""
    if asked is None:
        return (layers - 1) // 2
    if not 0 <= asked < layers:
        raise InputError(f"layer: {asked}, but the fusion encoder has {layers}; accepted: 0 to {layers - 1}")
    return asked


def grad_cam(student: TCLStudent, image_tokens: Tensor, input_ids: Tensor, layer: int) -> Tensor:
    """Contribution of patches to tokens' match: image_tokens [1, 1 + patches, width], ids [1, L] -> [L, patches], >= 0.

    layer: 0 to fusion layers - 1. In fp32, and no parameter gets a gradient. Where the fusion encoder looks at few
    tokens, each passes what it contributes on to the patches, in the shares in which it looks at them.
    """
    fusion = student.encoders.fusion_encoder
    mask = torch.ones_like(input_ids, dtype=torch.bool)[:, None, None, :]
    with torch.no_grad():
        images = fusion.image_keys_values(image_tokens)
        text = student.encoders.text_encoder(input_ids, torch.ones_like(input_ids))
        text = fusion.to_width(text)
        for before, image in zip(fusion.layers[:layer], images[:layer], strict=True):
            text = before(text, mask, image, None)
        text = fusion.layers[layer].read_text(text, mask)
        probabilities = fusion.layers[layer].cross_attention.probabilities(text, images[layer])
    with torch.enable_grad():
        probabilities.requires_grad_()
        looked = fusion.layers[layer].cross_attention.look(text, images[layer], probabilities)
        text = fusion.layers[layer].feed_forward(looked)
        for after, image in zip(fusion.layers[layer + 1 :], images[layer + 1 :], strict=True):
            text = after(text, mask, image, None)
        match = student.itm_head(text[:, 0])[0, 1]
        (gradient,) = torch.autograd.grad(match, probabilities)
    contributions = (gradient.clamp(min=0) * probabilities.detach())[0].mean(dim=0)
    if fusion.compression is not None:
        with torch.no_grad():
            contributions = contributions @ fusion.compression.looks(image_tokens)[0]
    return contributions[:, 1:]


def overlay(image: Image.Image, heat: np.ndarray) -> Image.Image:
    """An RGB image under heat [rows, columns] (>= 0), which covers it from edge to edge -> RGB of the image's size.

    Colours go from 0 to the map's own maximum; a map of zeros leaves the image as it is.
    """
    highest = float(heat.max())
    if highest == 0:
        return image.copy()
    smooth = Image.fromarray((heat / highest).astype(np.float32)).resize(image.size, Image.Resampling.BICUBIC)
    share = np.asarray(smooth).clip(0, 1)[:, :, None]
    coloured = COLOURS(share[:, :, 0])[:, :, :3] * 255
    mixed = np.asarray(image) * (1 - STRONGEST * share) + coloured * STRONGEST * share
    return Image.fromarray(np.rint(mixed).astype(np.uint8))
