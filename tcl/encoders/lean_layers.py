"""Layers that keep for the backward pass what is dear to compute, but not what a norm or an activation gives.

Both sides of a norm and of an activation are kept by autograd: what it was given by itself, what it gave by the product
behind it. The second is computed again here, for one pass over it more.
"""

from collections.abc import Callable

import torch
from timm.layers import Mlp
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from tcl.encoders.product_attention import as_products_take


def computed_again(cheap: Callable[[Tensor], Tensor], dear: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """dear(cheap(x)), of which `dear` keeps nothing that is cheap(x). cheap: a function of x alone."""
    # Compilers decide by themselves what they keep, and what has no memory has no addresses.
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or x.is_meta:
        return dear(cheap(x))
    given, between = x.detach(), cheap(x)
    address, elements, dtype = between.data_ptr(), between.numel(), between.dtype

    def pack(kept: Tensor) -> Tensor | torch.Size:
        return kept.shape if kept.data_ptr() == address and kept.numel() == elements else kept

    def unpack(kept: Tensor | torch.Size) -> Tensor:
        return kept if isinstance(kept, Tensor) else cheap(given).to(dtype).view(kept)

    with saved_tensors_hooks(pack, unpack):
        return dear(between)


class LeanMlp(Mlp):
    """timm's MLP of a ViT, its activation computed again."""

    lean = True  # see keep_whole

    def forward(self, x: Tensor) -> Tensor:
        """x [B, N, width] -> the same shape."""
        plain = isinstance(self.norm, nn.Identity) and not (self.training and self.drop1.p)
        if not (self.lean and plain):
            return super().forward(x)
        return self.drop2(computed_again(self.act, self.fc2, self.fc1(x)))


class LeanBlock(Block):
    """timm's pre-norm block of a ViT, its norms computed again."""

    lean = True  # see keep_whole

    def forward(self, x: Tensor, **attention: object) -> Tensor:
        """x [B, N, width] -> the same shape. attention: as timm's attention takes it beside x."""
        if not self.lean:
            return super().forward(x, **attention)
        attended = computed_again(
            lambda x: as_products_take(self.norm1(x)), lambda normed: self.attn(normed, **attention), x
        )
        x = x + self.drop_path1(self.ls1(attended))
        seen = computed_again(lambda x: as_products_take(self.norm2(x)), self.mlp, x)
        return x + self.drop_path2(self.ls2(seen))


def use_lean_layers(network: nn.Module) -> None:
    """Put lean layers in place of timm's wherever these are within `network`, with their weights."""
    lean = {Mlp: LeanMlp, Block: LeanBlock}
    for module in network.modules():
        module.__class__ = lean.get(type(module), type(module))


def keep_whole(network: nn.Module) -> None:
    """From now on nothing within `network` is computed again by itself: where whole layers are, what is kept for their
    parts would stay."""
    for module in network.modules():
        if hasattr(module, "lean"):
            module.lean = False
