"""MIL-NCE as the published code has it: the whole matrix of similarities, twice."""

import torch
from torch import Tensor
from torch.nn import functional as F


def mil_nce(clips: Tensor, captions: Tensor, temperature: float) -> Tensor:
    """clips [B, D], captions [B, K, D], unit vectors; right pairs count twice in the denominator."""
    B, K, _ = captions.shape
    x = (clips @ captions.flatten(0, 1).T / temperature).view(B, B, K)
    right = (x * torch.eye(B, device=x.device)[:, :, None]).sum(dim=1).logsumexp(dim=1)
    return (torch.cat([x, x.permute(1, 0, 2)], dim=1).flatten(1).logsumexp(dim=1) - right).mean()


def log_mel(wave: Tensor, filters: Tensor, window: int, hop: int) -> Tensor:
    """[B, samples] -> [B, frames, bins]: every frame cut out, windowed, transformed."""
    frames = -(-wave.shape[1] // hop)
    padded = F.pad(wave, (0, (frames - 1) * hop + window - wave.shape[1]))
    cut = padded.unfold(1, window, hop) * torch.hann_window(window, device=wave.device)
    return (torch.fft.rfft(cut).abs() @ filters + 1e-6).log()
