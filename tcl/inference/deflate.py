"""A trained model of clips as one of images, whose norms are fitted again on images without labels."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tcl.config.audio import seconds_of_sound
from tcl.config.model import ModelConfig
from tcl.encoders.video import VideoEncoder, clip_features
from tcl.errors import InputError
from tcl.exports.pretrained import Pretrained
from tcl.models.deflate import l1, norm_parameters, refit_norms


@dataclass
class Exactness:
    """How far the network of images is from that of clips on copies of images that were not fitted: mean |difference|
    of their features."""

    before: float
    after: float
    size: float
    """Mean |feature| of the network of clips."""


def deflate(
    pretrained: Pretrained, images: Tensor, held_out: Tensor, *, steps: int, batch_size: int, lr: float, seed: int
) -> tuple[Pretrained, Exactness]:
    """A model of the same kind, whose clips are one frame.

    images, held_out: pixels [n, 3, H, W], as the encoder takes them, n >= 1. steps: of Adam, batch_size images each,
    >= 0 and >= 1. InputError: a model without a video encoder, or of single frames.
    """
    clips = getattr(pretrained.student.averaged, "video_encoder", None)
    if clips is None:
        raise InputError(f"model: a {pretrained.kind.name} model is not deflated; give one of --objective clips")
    if pretrained.model.video.frames == 1:
        raise InputError("model: its clips are one frame already; give one of model.video.frames > 1")
    model = of_images(pretrained.model)
    student = pretrained.kind.build(model, pretrained.kind.parts_of(pretrained.student), pretrained.tokenizer)
    student.load_state_dict(_weights_of_images(pretrained.student.state_dict(), student.state_dict()))
    network, device = student.to(images.device).eval().averaged.video_encoder, images.device
    clips = clips.to(device).eval()
    wanted, held_out_wanted = (_of_copies(clips, some, pretrained.model.video.frames) for some in (images, held_out))

    def distance() -> float:
        found = torch.cat([_of_images(network, some) for some in held_out.split(batch_size)])
        return l1(found, held_out_wanted).item()

    def examples() -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            drawn = torch.randperm(len(images), generator=generator)[:batch_size].to(device)
            yield images[drawn], wanted[drawn]

    with torch.no_grad():
        before = distance()
    refit_norms(lambda pixels: _of_images(network, pixels), norm_parameters(network), examples(), lr)
    with torch.no_grad():
        exactness = Exactness(before, distance(), held_out_wanted.abs().mean().item())
    return replace(pretrained, student=student.cpu(), model=model), exactness


def of_images(model: ModelConfig) -> ModelConfig:
    """Clips are one frame, and nothing comes from other frames. What attention over frames makes of one is kept, and
    sounds are as long as they were."""
    temporal = "none" if model.video.temporal == "shift" else model.video.temporal
    audio = replace(model.audio, seconds=seconds_of_sound(model.audio, model.video))
    return replace(model, video=replace(model.video, frames=1, temporal=temporal), audio=audio)


def _weights_of_images(weights: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of positions in time the mean."""
    return {
        name: tensor if tensor.shape == own[name].shape else tensor.mean(dim=0, keepdim=True)
        for name, tensor in weights.items()
    }


def _of_images(network: VideoEncoder, images: Tensor) -> Tensor:
    return clip_features(network(images[:, None]))


@torch.no_grad()
def _of_copies(network: VideoEncoder, images: Tensor, frames: int) -> Tensor:
    """[n, width], an image at a time: there are many copies of it."""
    return torch.cat([clip_features(network(one[None, None].expand(1, frames, -1, -1, -1))) for one in images])
