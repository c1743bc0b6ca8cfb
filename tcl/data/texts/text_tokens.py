"""The texts of a batch."""

from dataclasses import dataclass

from torch import Tensor

from tcl.data.texts.masking import MaskedText


@dataclass
class Texts:
    """B texts, padded to L tokens."""

    ids: Tensor
    """[B, L] int64, [CLS] in column 0."""
    mask: Tensor
    """[B, L] int64, 1 token, 0 padding."""
    masked: MaskedText | None = None
    """The same texts with tokens masked for MLM; None where nothing is."""

    def describe(self) -> str:
        """How long they are."""
        return f"of {self.mask.sum(dim=1).float().mean():.1f} tokens"
