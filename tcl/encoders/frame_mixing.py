"""How frames of a clip see each other inside the blocks of a ViT that looks at each of them alone.

Shift: TSM (Lin et al. 2019, arXiv 1811.08383), on tokens as in TokenShift (arXiv 2108.02432), [CLS] among them.
Attention: divided, over time (TimeSformer, arXiv 2102.05095, section 3).
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHARE = 8
"""An eighth of the channels comes from the next frame, another one from the frame before."""

Ends = Literal["repeat", "zero"]


def shift_frames(frames: Tensor, ends: Ends) -> Tensor:
    """[B, T, ..., C] -> the same shape: the first C // 8 channels are the next frame's, the last as many those of the
    frame before. ends: what comes from beyond the clip, the end frame's own channels or zeros."""
    n = frames.shape[-1] // SHARE
    if n == 0:
        return frames
    following, staying, previous = frames[..., :n], frames[..., n:-n], frames[..., -n:]
    last, first = following[:, -1:], previous[:, :1]
    if ends == "zero":
        last, first = torch.zeros_like(last), torch.zeros_like(first)
    following, previous = torch.cat([following[:, 1:], last], dim=1), torch.cat([first, previous[:, :-1]], dim=1)
    return torch.cat([following, staying, previous], dim=-1)


class FrameShift(nn.Module):
    """What goes into the attention of a block, with channels of the neighbouring frames; the shortcut is as it was.

    `frames`, T, is that of the clips that come next.
    """

    def __init__(self, ends: Ends, frames: int):
        super().__init__()
        self.ends = ends
        self.frames = frames

    def hang_into(self, block: nn.Module) -> None:
        """From now on the block does it."""
        block.attn.register_forward_pre_hook(self._before)

    def _before(self, _: nn.Module, arguments: tuple) -> tuple:
        return self(arguments[0]), *arguments[1:]

    def forward(self, tokens: Tensor) -> Tensor:
        """[B T, N, width] -> the same shape."""
        return shift_frames(tokens.unflatten(0, (-1, self.frames)), self.ends).flatten(0, 1)


class FrameAttention(nn.Module):
    """x + attention over the frames' tokens at the same place, with learned positions in time, as a block begins.

    Its last layer starts as zero: x as it was. `frames`, T, is that of the clips that come next; positions of clips of
    other lengths than `longest` are interpolated.
    """

    def __init__(self, width: int, heads: int, longest: int):
        super().__init__()
        self.heads = heads
        self.frames = longest
        self.norm = nn.LayerNorm(width)
        self.positions = nn.Parameter(torch.empty(longest, width))
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.last = nn.Linear(width, width)
        nn.init.normal_(self.positions)  # as large as what the norm gives: order is seen from the start
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def hang_into(self, block: nn.Module) -> None:
        """From now on the block begins with it."""
        block.register_forward_pre_hook(self._before)

    def _before(self, _: nn.Module, arguments: tuple) -> tuple:
        return self(arguments[0]), *arguments[1:]

    def forward(self, tokens: Tensor) -> Tensor:
        """[B T, N, width] -> the same shape."""
        T, N = self.frames, tokens.shape[1]
        by_place = tokens.unflatten(0, (-1, T)).transpose(1, 2).flatten(0, 1)  # [B N, T, width]
        seen = self.norm(by_place) + self._positions(T)
        split = self.queries_keys_values(seen).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*split.unbind(0)).transpose(1, 2).flatten(2)
        return tokens + self.last(attended).unflatten(0, (-1, N)).transpose(1, 2).flatten(0, 1)

    def _positions(self, T: int) -> Tensor:
        if len(self.positions) == T:
            return self.positions
        return F.interpolate(self.positions.T[None], size=T, mode="linear")[0].T
