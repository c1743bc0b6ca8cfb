"""The sounds of a batch, as their encoder takes them."""

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Sounds:
    """B sounds of F spectrogram frames; those of samples without sound hold anything finite."""

    log_mel: Tensor
    """[B, F, mel_bins] fp32 (`tcl.data.audio.log_mel`)."""
    heard: Tensor
    """bool [B, F]: frames of the sound; False where it was shorter and silence fills the rest. At least one is True in
    each row."""

    def describe(self) -> str:
        """Their shape, and how much of it was heard."""
        return f"{tuple(self.log_mel.shape)}, {100 * self.heard.float().mean():.0f} % heard"
