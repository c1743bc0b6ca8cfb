"""Stored image tokens as training reads them, in place of pixels: the same draws, of views that were made before."""

import random
from dataclasses import dataclass

import torch

from tcl.data.images.image_format import TOKENS_EXTENSION
from tcl.data.shards.bad_sample import BadSample
from tcl.data.tokens.description import TokenShards
from tcl.data.tokens.stored_tokens import StoredTokens
from tcl.data.tokens.token_sample import NO_TOKENS, SampleTokens, unpack_tokens


@dataclass
class ImageTokens:
    """Stored tokens of one or two views of B images. An image encoder takes them as they are."""

    view: StoredTokens
    """Values [B, N, W], scales [B, N]."""
    other_view: StoredTokens | None = None
    """The same, for the teacher; None where the objective has none."""

    def describe(self) -> str:
        """Their shape."""
        return f"tokens {tuple(self.view.values.shape)} in {'fp16' if self.view.scales is None else 'int8'}"


@dataclass
class StoredImage:
    """The tokens of an image, of which views can be drawn."""

    file: SampleTokens

    @property
    def identity(self) -> int:
        """That of the image which the tokens are of."""
        return self.file.identity

    def view(self, rng: random.Random) -> StoredTokens:
        """One of the views: that which an `Augment` with so many views would draw."""
        number = rng.randrange(len(self.file.tokens.values))
        values, scales = self.file.tokens.values, self.file.tokens.scales
        return StoredTokens(values[number], None if scales is None else scales[number])


class TokenViews:
    """Reads files of tokens as `stored` describes them."""

    def __init__(self, stored: TokenShards):
        self.stored = stored

    def open(self, fields: dict[str, bytes]) -> StoredImage:
        """The tokens of a sample, given as its bytes by extension. BadSample: unusable, of another tower, or none."""
        if TOKENS_EXTENSION not in fields:
            raise BadSample(NO_TOKENS)
        stored = self.stored
        return StoredImage(unpack_tokens(fields[TOKENS_EXTENSION], stored.tower.weights, stored.shape, stored.dtype))

    def batch(self, views: list[StoredTokens], other_views: list[StoredTokens] | None = None) -> ImageTokens:
        """Views of B images, and others of the same."""
        return ImageTokens(_stacked(views), None if other_views is None else _stacked(other_views))


def _stacked(views: list[StoredTokens]) -> StoredTokens:
    scales = None if views[0].scales is None else torch.stack([view.scales for view in views])
    return StoredTokens(torch.stack([view.values for view in views]), scales)
