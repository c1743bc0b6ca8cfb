"""Parity with the published MMV: log-mel, heads, losses, temporal shift, deflation.

Any file of the same form works, in the folder that TCL_GOLDEN_MMV_DIR names.
"""

import pytest
import torch
from golden_mmv import GOLDEN, METADATA, close

from tcl.config.audio import SpectrogramConfig
from tcl.data.audio.log_mel import log_mel, mel_filters

SPECTROGRAM = METADATA["spectrogram"]
SOUNDS = [key.removeprefix("in.mel.") for key in GOLDEN if key.startswith("in.mel.")]


def spectrogram_of(tag: str) -> SpectrogramConfig:
    sizes = SPECTROGRAM | SPECTROGRAM["variants"].get(tag, {}) if tag == "rate_16k" else SPECTROGRAM
    return SpectrogramConfig(
        sample_rate=sizes["sample_rate"],
        window=sizes["frame_length"],
        hop=sizes["frame_step"],
        mel_bins=sizes["mel_bins"],
        low_hz=sizes["lower_edge_hertz"],
        high_hz=sizes["upper_edge_hertz"],
    )


@pytest.mark.parametrize("tag", SOUNDS)
def test_log_mel(tag):
    wave = GOLDEN[f"in.mel.{tag}"]
    if tag == "peak_normalised":
        wave = wave / (wave.abs().max() + 1e-8)
    if tag == "two_clips":
        wave = wave.view(2, -1)
    found = log_mel(wave, spectrogram_of(tag), power=2 if tag == "power" else 1)
    close(found, GOLDEN[f"out.mel.{tag}"], 1e-4)


def test_mel_filters():
    used = GOLDEN["out.mel.filters_used"]
    filters = mel_filters(spectrogram_of("published"))
    close(filters[: len(used)], used, 1e-4)
    assert filters[len(used) :].count_nonzero() == 0


def test_defaults_are_the_published_spectrogram():
    assert spectrogram_of("published") == SpectrogramConfig()
    assert log_mel(torch.zeros(2, 1024 * 3 + 1), SpectrogramConfig()).shape == (2, 4, 80)
