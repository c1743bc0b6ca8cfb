"""The texts of a batch of clips: several to each."""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Captions:
    """K captions of each of B clips, padded to L tokens. K is the same for all batches of a run and all processes."""

    ids: Tensor
    """[B, K, L] int64, [CLS] in column 0, also of captions that do not exist."""
    mask: Tensor
    """[B, K, L] int64, 1 token, 0 padding; column 0 is 1 also of captions that do not exist."""
    exist: Tensor
    """bool [B, K]: clips with fewer than K captions have padding in the last places, which counts for nothing."""

    def describe(self) -> str:
        """How many there are, and how long."""
        lengths = self.mask.sum(dim=2)[self.exist].float()
        count = self.exist.sum(dim=1).float().mean()
        return f"{count:.1f} each of {lengths.mean():.1f} tokens" if len(lengths) else "none"
