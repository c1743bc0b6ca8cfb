"""Two blocks of MMV's published TSM network (ResNet V2, channels last), on which its deflation was recorded."""

import torch
from golden_mmv import GOLDEN, METADATA
from torch import Tensor, nn
from torch.nn import functional as F

from tcl.encoders.frame_mixing import SHARE, shift_frames

STATE = "state.deflate."
EPS = METADATA["deflate"]["eps"]


def reorder(x: Tensor) -> Tensor:
    """The published shift has the last channels, of the next frame, first, and the first, of the one before, last."""
    n = x.shape[-1] // SHARE
    return torch.cat([x[..., -n:], x[..., n:-n], x[..., :n]], dim=-1)


def published_shift(x: Tensor) -> Tensor:
    """[B, T, H, W, C]."""
    return shift_frames(reorder(x), "zero")


MIXED = {"video": published_shift, "image": reorder, "off": lambda x: x}
"""What happens to channels before conv_0: in clips, in images, and in the published code with a shift of 0."""


class TSM(nn.Module):
    """Scales and offsets of its norms are what is learned; fp64."""

    def __init__(self):
        super().__init__()
        self.places = [
            key.removeprefix(STATE).removesuffix(".scale")
            for key in GOLDEN
            if key.startswith(STATE) and ".scale" in key
        ]
        self.scales, self.offsets = (
            nn.ParameterList([GOLDEN[f"{STATE}{place}.{kind}"].flatten().double() for place in self.places])
            for kind in ("scale", "offset")
        )

    def forward(self, x: Tensor, mixed: str) -> Tensor:
        """[B, T, H, W, C] -> [B, C]."""
        for block in (0, 1):
            x = self._block(x, f"tsm_resnet_unit/block_{block}/", MIXED[mixed], stride=2 if block == 0 else 1)
        return self._norm(x, "__batch_norm").mean(dim=(2, 3)).mean(dim=1)

    def _block(self, x: Tensor, name: str, mix, stride: int) -> Tensor:
        preact = self._norm(x, f"{name}__batch_norm")
        shortcut = x if stride == 1 else conv(preact, f"{name}shortcut_conv", stride)
        residual = conv(mix(preact), f"{name}conv_0")
        residual = conv(self._norm(residual, f"{name}__batch_norm_1"), f"{name}conv_1", stride)
        return shortcut + conv(self._norm(residual, f"{name}__batch_norm_2"), f"{name}conv_2")

    def _norm(self, x: Tensor, place: str) -> Tensor:
        """And ReLU."""
        i = self.places.index(place)
        mean, variance = (GOLDEN[f"{STATE}{place}/~/{kind}_ema.average"].double() for kind in ("mean", "var"))
        return F.relu((x - mean) * torch.rsqrt(variance + EPS) * self.scales[i] + self.offsets[i])


def conv(x: Tensor, place: str, stride: int = 1) -> Tensor:
    """SAME: where a stride of 2 needs one more row, it comes at the end."""
    weight = GOLDEN[f"{STATE}{place}.w"].double().permute(3, 2, 0, 1)
    size, side = weight.shape[-1], x.shape[2]
    total = max(0, (-(-side // stride) - 1) * stride + size - side)
    before, after = total // 2, total - total // 2
    images = F.pad(x.flatten(0, 1).permute(0, 3, 1, 2), (before, after, before, after))
    return F.conv2d(images, weight, stride=stride).permute(0, 2, 3, 1).unflatten(0, x.shape[:2])
