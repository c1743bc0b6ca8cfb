"""What image encoders of all kinds have in common: a timm network, how it is run, and how images reach it."""

from contextlib import AbstractContextManager, nullcontext

import torch
from timm.data import resolve_model_data_config
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tcl.config.model import ImageEncoderConfig
from tcl.data.images.normalise import normalise
from tcl.data.tokens.stored_tokens import StoredTokens, restore_tokens
from tcl.encoders.product_attention import ProductAttention
from tcl.encoders.remembered import Remembered
from tcl.errors import InputError


class ImageEncoder(nn.Module):
    """A timm network as a function from images to tokens: `ViTEncoder` or `GridEncoder`.

    `width` is the token width, `grid` the (rows, columns) of patches, `mean` and `std` the normalisation (3 values
    each, for pixels in 0..1), by default what the network's own configuration asks for; `backbone` is that network
    without its head; `positions` its learned embeddings of places, None if it has none; `patch_drop` the share of the
    patches that a student in training asks to leave out.
    """

    backbone: nn.Module
    width: int
    grid: tuple[int, int]
    positions: nn.Parameter | None

    def __init__(self, backbone: nn.Module, config: ImageEncoderConfig):
        super().__init__()
        backbone.forward = backbone.forward_features  # called as a module: ZeRO 3 hangs its hooks on that
        data_config = resolve_model_data_config(backbone)
        self.mean: tuple[float, ...] = config.mean or data_config["mean"]
        self.std: tuple[float, ...] = config.std or data_config["std"]
        self.patch_drop = config.patch_drop
        self.frozen = False
        self.frozen_norms = False
        self.remember = config.remember
        self.remembered: Remembered | None = None
        self.kept_elements: int | None = None
        """Of an image, for the backward pass, where that was measured; None: transformer layers keep what they keep."""
        self._scale: tuple[Tensor, Tensor] | None = None

    def forward(self, image: Tensor | StoredTokens, patch_drop: float = 0.0) -> Tensor:
        """[B, 3, H, W], normalised -> [B, 1 + patches, width]: the global token, then the patches, row by row.

        Or from `features` that were stored. patch_drop: share of the patches, 0 <= p < 1, that is left out, other ones
        of each image; the rest comes in any order.
        """
        return self.tokens(self.features(image, patch_drop))

    def features(self, image: Tensor | StoredTokens, patch_drop: float = 0.0) -> Tensor:
        """What the backbone gives, as a sequence [B, N, features], without gradient where it is frozen: then student
        and teacher can share it. Where it was stored, the backbone does not run.

        InputError: patch_drop above 0 with a network that needs all patches.
        """
        if isinstance(image, StoredTokens):
            return restore_tokens(image, next((p.dtype for p in self.parameters()), torch.float32))
        with self._gradients():
            if self.remembered is None or not self.training or patch_drop:
                return self._run(image, patch_drop)
            return torch.stack(self.remembered(self._run, list(image)))

    def _run(self, image: Tensor, patch_drop: float = 0.0) -> Tensor:
        raise NotImplementedError

    def tokens(self, features: Tensor) -> Tensor:
        """`features` -> the tokens of `forward`."""
        raise NotImplementedError

    @property
    def student_drop(self) -> float:
        """What a student gives as patch_drop: config.patch_drop while it is trained, none else."""
        return self.patch_drop if self.training else 0.0

    def prepare(self, pixels: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> float of the same shape on the same device, as `forward` takes it."""
        if self._scale is None or self._scale[0].device != pixels.device:
            # No buffers: casting the module to bf16 would round them, and DDP would send them at each step.
            self._scale = torch.tensor(self.mean, device=pixels.device), torch.tensor(self.std, device=pixels.device)
        return normalise(pixels, *self._scale)

    @property
    def patches(self) -> int:
        """How many tokens come after the global one."""
        return self.grid[0] * self.grid[1]

    @property
    def layers(self) -> list[nn.Module]:
        """The blocks of a transformer, the stages of a convolutional network."""
        for name in ("blocks", "stages", "layers"):
            stack = getattr(self.backbone, name, None)
            if isinstance(stack, (nn.Sequential, nn.ModuleList)):
                return list(stack)
        return [part for part in self.backbone.children() if isinstance(part, nn.Sequential)] or [self.backbone]

    def configure_layers(self, *, activation_checkpointing: bool, fused_attention: bool) -> None:
        """Compute layers again in the backward pass? Use torch's fused attention, or ours, where a block can?

        InputError: timm cannot compute those of this network again.
        """
        if not fused_attention:
            for module in self.backbone.modules():
                # Not every kind of block keeps its attention under the same name.
                if hasattr(module, "fused_attn") and not isinstance(module, ProductAttention):
                    module.fused_attn = False
        if activation_checkpointing and not self.frozen:
            try:
                self.backbone.set_grad_checkpointing(True)
            except (AssertionError, AttributeError) as error:  # how timm says that it cannot
                raise InputError(
                    f"train.activation_checkpointing: True is not possible with the {type(self.backbone).__name__} of "
                    f"model.image.name, whose layers timm cannot compute again; accepted: false"
                ) from error

    def freeze_backbone(self) -> None:
        """From now on the backbone is not trained, stays in eval mode, and gives no gradients; copies, too."""
        self.frozen = True
        self.remembered = Remembered(self.remember) if self.remember else None
        self.backbone.requires_grad_(False).eval()

    def freeze_norms(self) -> None:
        """From now on batch norms stay in eval mode, with the statistics that they have; in copies, too."""
        self.frozen_norms = True
        for norm in batch_norms(self.backbone):
            norm.eval()

    @property
    def frozen_parts(self) -> tuple[nn.Module, ...]:
        """What of it is never trained, so that copies may share it."""
        return (self.backbone,) if self.frozen else ()

    def train(self, mode: bool = True) -> "ImageEncoder":
        """As of any module, but a frozen backbone stays in eval mode: its batch norms, dropout and dropped paths. With
        frozen_norms its batch norms do."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        if self.frozen_norms:
            self.freeze_norms()
        return self

    def _gradients(self) -> AbstractContextManager:
        """Within it the backbone is run."""
        return torch.no_grad() if self.frozen else nullcontext()


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """All batch norms of it."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def cannot_drop(patch_drop: float, network: str) -> str:
    """The message where `network` needs all patches."""
    return (
        f"model.image.patch_drop: {patch_drop} is not possible with a {network}, which needs the whole grid of "
        f"patches; use 0, or a ViT whose positions are absolute or rotary"
    )
