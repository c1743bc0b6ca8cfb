"""The clips of a batch: frames by time."""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Clips:
    """B clips of T frames each; a photograph is the same frame T times."""

    frames: Tensor
    """[B, T, 3, H, W], RGB: uint8 from the loader, float as encoders take it (`VideoEncoder.prepare`)."""

    def describe(self) -> str:
        """Their shape."""
        return str(tuple(self.frames.shape))
