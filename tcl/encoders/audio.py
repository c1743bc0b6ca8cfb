"""The encoder of sound: a ViT on the log-mel spectrogram, as if it were an image (AST, arXiv 2104.01778)."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from tcl.config.audio import AudioConfig, seconds_of_sound
from tcl.config.model import ModelConfig
from tcl.encoders.bounded_memory import bounded_memory
from tcl.encoders.image_weights import create, load
from tcl.encoders.lean_layers import use_lean_layers
from tcl.encoders.product_attention import use_product_attention
from tcl.errors import InputError
from tcl.hub_access import hub_or_cache

MEAN, SCALE = -4.0, 5.0
"""Of log-mel: silence, log 1e-6, becomes -2, a loud tone 2."""


class AudioEncoder(nn.Module):
    """Spectrogram frames are padded with silence to whole patches; patches in which nothing was heard are not seen."""

    def __init__(self, vit: VisionTransformer):
        super().__init__()
        use_product_attention(vit)
        use_lean_layers(vit)
        vit.forward = vit.forward_features  # called as a module: ZeRO 3 hangs its hooks on that
        self.vit = vit
        self.width: int = vit.num_features
        self.tokens: int = 1 + vit.patch_embed.num_patches

    def forward(self, log_mel: Tensor, heard: Tensor) -> Tensor:
        """[B, F, mel_bins] and bool [B, F], the frames of the sound -> tokens [B, 1 + patches, width], the global one,
        [CLS], first. F is at most that for which it was built."""
        rows, columns = self.vit.patch_embed.grid_size
        height = self.vit.patch_embed.patch_size[0]
        missing = rows * height - log_mel.shape[1]
        image = F.pad((log_mel - MEAN) / SCALE, (0, 0, 0, missing))
        seen = F.pad(heard, (0, missing)).unflatten(1, (rows, height)).any(dim=2)
        seen = F.pad(seen.repeat_interleave(columns, dim=1), (self.vit.num_prefix_tokens, 0), value=True)
        tokens = self.vit(image[:, None], attn_mask=seen[:, None, None])
        return torch.cat([tokens[:, :1], tokens[:, self.vit.num_prefix_tokens :]], dim=1)

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The blocks."""
        return list(self.vit.blocks)

    def configure_layers(self, *, activation_checkpointing: bool, fused_attention: bool) -> None:
        """Neither makes a difference: what is kept of sound is little beside clips, and its attention is ours."""


def encoder_of_sounds(model: ModelConfig) -> AudioEncoder:
    """As `build_audio_encoder`, for as much sound as goes with a clip."""
    sound = model.audio.spectrogram
    samples = round(seconds_of_sound(model.audio, model.video) * sound.sample_rate)
    return build_audio_encoder(model.audio, max(1, sound.frames(samples)))


def build_audio_encoder(config: AudioConfig, frames: int) -> AudioEncoder:
    """Random or pre-trained, for spectrograms of up to `frames` frames. InputError: it cannot be built."""
    arguments: dict[str, Any] = {"in_chans": 1, "num_classes": 0, **config.overrides}
    hub: AbstractContextManager = hub_or_cache(config.name) if config.pretrained is True else nullcontext()
    try:
        height = _patch_height(config, arguments)
        size = (-(-frames // height) * height, config.spectrogram.mel_bins)
        arguments = {"global_pool": "token", **arguments, "img_size": size}
        with bounded_memory("model.audio"), torch.device("meta"):
            create(config.name, arguments)
        if not config.pretrained:
            return AudioEncoder(create(config.name, arguments))
        overlay = {"file": config.pretrained} if isinstance(config.pretrained, str) else {}
        with hub:
            return AudioEncoder(load(config.name, arguments | {"pretrained_cfg_overlay": overlay}, set()))
    except InputError:
        raise
    except Exception as error:  # timm raises whatever the constructor of the named model raises
        raise InputError(
            f"model.audio: timm cannot build {config.name!r} with {arguments} (pretrained={config.pretrained!r}): "
            f"{' '.join(str(error).split())}; name a ViT of timm, e.g. vit_tiny_patch16_224, and sizes that fit it"
        ) from error


def _patch_height(config: AudioConfig, arguments: dict[str, Any]) -> int:
    """Spectrogram frames of a patch. InputError: it is no plain ViT, or mel bins that are no whole patches."""
    with bounded_memory("model.audio"), torch.device("meta"):
        vit = create(config.name, arguments)
    if not isinstance(vit, VisionTransformer) or getattr(vit, "cls_token", None) is None:
        raise InputError(f"model.audio.name: {config.name!r} is no plain ViT with [CLS]; use e.g. vit_tiny_patch16_224")
    height, width = vit.patch_embed.patch_size
    if config.spectrogram.mel_bins % width:
        raise InputError(
            f"model.audio.spectrogram.mel_bins: {config.spectrogram.mel_bins} is not a multiple of the patch size "
            f"{width} of {config.name}; use e.g. {max(1, round(config.spectrogram.mel_bins / width)) * width}"
        )
    return height
