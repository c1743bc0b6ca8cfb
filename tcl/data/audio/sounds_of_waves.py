"""Waves to what the encoder of sound takes."""

from collections.abc import Sequence

import numpy as np
import torch

from tcl.config.audio import SpectrogramConfig
from tcl.data.audio.log_mel import log_mel
from tcl.data.audio.sounds import Sounds
from tcl.data.media.sound_wave import Wave


def sounds_of(waves: Sequence[Wave | None], seconds: float, spectrogram: SpectrogramConfig) -> Sounds:
    """B waves of `seconds` at the spectrogram's rate; None: there is no sound, and silence in its place."""
    samples, hop = round(seconds * spectrogram.sample_rate), spectrogram.hop
    padded = np.zeros((len(waves), samples), np.float32)
    starts = torch.arange(spectrogram.frames(samples)) * hop
    heard = torch.zeros(len(waves), len(starts), dtype=torch.bool)
    heard[:, 0] = True
    for row, wave in enumerate(waves):
        if wave is not None:
            padded[row] = wave.samples
            heard[row] = (starts < wave.last) & (starts + hop > wave.first)
    return Sounds(log_mel(torch.from_numpy(padded), spectrogram), heard)
