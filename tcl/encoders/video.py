"""The encoder of clips: that of images on each frame, with frames that see each other in its blocks, or not."""

from torch import Tensor, nn

from tcl.config.model import ModelConfig
from tcl.config.video import VideoConfig
from tcl.encoders.build_image_encoder import build_image_encoder
from tcl.encoders.frame_mixing import FrameAttention, FrameShift
from tcl.encoders.image_encoder import ImageEncoder
from tcl.encoders.vit_encoder import ViTEncoder
from tcl.errors import InputError


class VideoEncoder(nn.Module):
    """`width` is that of the tokens, `frames` how many a clip of a run has; what is learned of images is in
    `image_encoder`, under names that it has alone.

    InputError: frames that are to see each other in a network that has no blocks for that, is frozen, remembers, or
    leaves out patches.
    """

    def __init__(self, image_encoder: ImageEncoder, config: VideoConfig):
        super().__init__()
        self.image_encoder = image_encoder
        self.width = image_encoder.width
        self.frames = config.frames
        self.mixers = nn.ModuleList()
        if config.temporal == "none":
            return
        blocks = _blocks(image_encoder, config.temporal)
        for block in blocks:
            if config.temporal == "shift":
                mixer: nn.Module = FrameShift(config.ends, config.frames)
            else:
                mixer = FrameAttention(self.width, block.attn.num_heads, config.frames)
            mixer.hang_into(block)
            self.mixers.append(mixer)

    def forward(self, frames: Tensor, patch_drop: float = 0.0) -> Tensor:
        """[B, T, 3, H, W], as `prepare` gives them -> tokens [B, T, 1 + patches, width]: of each frame the global one
        first. patch_drop: as of the image encoder."""
        for mixer in self.mixers:
            mixer.frames = frames.shape[1]
        tokens = self.image_encoder(frames.flatten(0, 1), patch_drop)
        return tokens.unflatten(0, frames.shape[:2])

    def prepare(self, pixels: Tensor) -> Tensor:
        """uint8 [B, T, 3, H, W] -> float of the same shape on the same device."""
        return self.image_encoder.prepare(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])


def clip_features(tokens: Tensor) -> Tensor:
    """Tokens of clips [B, T, 1 + patches, width] -> what stands for each clip, the mean over its frames [B, width]."""
    return tokens[:, :, 0].mean(dim=1)


def build_video_encoder(model: ModelConfig) -> VideoEncoder:
    """Random or pre-trained, as model.image says. InputError: it cannot be built."""
    return VideoEncoder(build_image_encoder(model.image), model.video)


def _blocks(encoder: ImageEncoder, temporal: str) -> list[nn.Module]:
    """Those of a ViT whose tokens stay where they are. InputError: it is none."""
    field = f"model.video.temporal: {temporal!r}"
    blocks = encoder.layers
    if not isinstance(encoder, ViTEncoder) or not all(
        hasattr(getattr(one, "attn", None), "num_heads") for one in blocks
    ):
        raise InputError(f"{field} needs a ViT of blocks with attention as model.image.name; accepted here: 'none'")
    if encoder.patch_drop or encoder.remember:
        name = "patch_drop" if encoder.patch_drop else "remember"
        raise InputError(
            f"{field} is not possible with model.image.{name}, of frames alone; accepted: 'none', or 0 of it"
        )
    if encoder.frozen and temporal == "attention":
        raise InputError(f"{field} is not possible with model.image.frozen, which it is learned in; accepted: 'none'")
    return blocks
