"""A clip as an image is to whoever reads tokens of it: one sequence, the global token first."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tcl.config.model import ModelConfig
from tcl.encoders.image_encoder import ImageEncoder
from tcl.encoders.video import VideoEncoder, build_video_encoder, clip_features


class ClipTokens(nn.Module):
    """What an `ImageEncoder` is, of clips: its global token is the mean of the frames' [CLS], and after it come the
    patches of all frames, frame by frame.

    `grid` is that of a frame, `patches` their number in all frames, `kept_elements` of a clip.
    """

    def __init__(self, video: VideoEncoder):
        super().__init__()
        self.video = video
        self.width = video.width

    @property
    def of_frames(self) -> ImageEncoder:
        """What encodes each frame."""
        return self.video.image_encoder

    @property
    def grid(self) -> tuple[int, int]:
        return self.of_frames.grid

    @property
    def patches(self) -> int:
        return self.video.frames * self.of_frames.patches

    @property
    def layers(self) -> list[nn.Module]:
        return self.of_frames.layers

    @property
    def kept_elements(self) -> int | None:
        kept = self.of_frames.kept_elements
        return None if kept is None else self.video.frames * kept

    @property
    def backbone(self) -> nn.Module:
        return self.of_frames.backbone

    @property
    def mean(self) -> tuple[float, ...]:
        return self.of_frames.mean

    @property
    def std(self) -> tuple[float, ...]:
        return self.of_frames.std

    @property
    def frozen(self) -> bool:
        return self.of_frames.frozen

    @property
    def student_drop(self) -> float:
        return self.of_frames.student_drop

    @property
    def prepare(self) -> Callable[[Tensor], Tensor]:
        """uint8 [B, T, 3, H, W] -> float of the same shape on the same device."""
        return self.video.prepare

    def forward(self, clips: Tensor, patch_drop: float = 0.0) -> Tensor:
        """[B, T, 3, H, W], as `prepare` gives them -> [B, 1 + T * patches, width]. patch_drop: as of an image."""
        tokens = self.video(clips, patch_drop)
        return torch.cat([clip_features(tokens)[:, None], tokens[:, :, 1:].flatten(1, 2)], dim=1)


def build_clip_tokens(model: ModelConfig) -> ClipTokens:
    """Random or pre-trained, as model.image and model.video say. InputError: it cannot be built."""
    return ClipTokens(build_video_encoder(model))
