"""What the readers of samples ask for images: views, whatever these are made of."""

import random
from typing import Any, Protocol


class Opened(Protocol):
    """The image of a sample, of which views can be drawn."""

    @property
    def identity(self) -> int:
        """0 to 2^63 - 1, a hash: equal where the files of two images are."""

    def view(self, rng: random.Random) -> Any:
        """One view of it, drawn from `rng`."""


class ViewReader(Protocol):
    """`tcl.data.images.pixel_views.PixelViews`, or `tcl.data.tokens.token_views.TokenViews`."""

    def open(self, fields: dict[str, bytes]) -> Opened:
        """The image of a sample, given as its bytes by extension. BadSample: unusable, or none."""

    def batch(self, views: list, other_views: list | None = None) -> Any:
        """Views of B images, and others of the same, as `Batch.inputs` has them."""
