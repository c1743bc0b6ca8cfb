"""Log-mel spectrograms as MMV's: magnitudes, HTK filters that are triangles in mel, log(x + 1e-6), silence at the end.

    frame f = |FFT(Hann * wave[f hop : f hop + window])|,   log_mel = log(frame . filters + 1e-6)

The window is periodic where its length is even and symmetric where it is odd, as tf.signal's; the FFT is as long as it.
"""

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from tcl.config.audio import SpectrogramConfig

FLOOR = 1e-6
"""Added to the filters' sums: silence is log 1e-6 = -13.8."""


def log_mel(wave: Tensor, spectrogram: SpectrogramConfig, power: int = 1) -> Tensor:
    """Mono sound [..., samples] in -1 ... 1 -> [..., ceil(samples / hop), mel_bins], fp32; padded with silence.

    power: 1 magnitudes, as published, 2 their squares.
    """
    window, hop = spectrogram.window, spectrogram.hop
    frames = spectrogram.frames(wave.shape[-1])
    if frames == 0:
        return wave.new_zeros(*wave.shape[:-1], 0, spectrogram.mel_bins, dtype=torch.float32)
    end = (frames - 1) * hop + window
    padded = F.pad(wave.float(), (0, end - wave.shape[-1]))[..., :end]
    spectrum = torch.stft(
        padded.reshape(-1, end),
        n_fft=window,
        hop_length=hop,
        window=torch.hann_window(window, periodic=window % 2 == 0, device=wave.device),
        center=False,
        return_complex=True,
    )
    filters = mel_filters(spectrogram)
    used = int((filters.any(dim=1) * torch.arange(len(filters))).max()) + 1  # what is above all filters is not heard
    amplitudes = spectrum[:, :used].abs().pow(power).transpose(1, 2)
    heard = amplitudes @ filters[:used].to(wave.device)
    return (heard + FLOOR).log().reshape(*wave.shape[:-1], frames, spectrogram.mel_bins)


def mel_filters(spectrogram: SpectrogramConfig) -> Tensor:
    """[window // 2 + 1, mel_bins], triangles in mel of height 1, without area normalisation; 0 Hz is not heard."""
    given = spectrogram
    return _filters(given.sample_rate, given.window, given.mel_bins, given.low_hz, given.high_hz)


@cache
def _filters(sample_rate: int, window: int, bins: int, low_hz: float, high_hz: float) -> Tensor:
    heard = _mel(torch.linspace(0, sample_rate / 2, window // 2 + 1, dtype=torch.float64))[1:, None]
    low, high = _mel(torch.tensor([low_hz, high_hz], dtype=torch.float64)).tolist()
    edges = torch.linspace(low, high, bins + 2, dtype=torch.float64)
    rising = (heard - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - heard) / (edges[2:] - edges[1:-1])
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return F.pad(triangles, (0, 0, 1, 0)).float()


def _mel(hertz: Tensor) -> Tensor:
    """The HTK scale."""
    return 1127 * torch.log1p(hertz / 700)
