"""Vision transformers of any kind: plain, with registers, rotary or relative positions, with or without [CLS]."""

import torch
from timm.layers import patch_dropout_forward
from timm.models.eva import Eva
from torch import Tensor, nn

from tcl.config.model import ImageEncoderConfig
from tcl.encoders.image_encoder import ImageEncoder, cannot_drop
from tcl.encoders.lean_layers import use_lean_layers
from tcl.encoders.product_attention import use_product_attention
from tcl.errors import InputError


class ViTEncoder(ImageEncoder):
    """A timm ViT. The global token is [CLS]; without one, what timm pools for the ViT's classifier (attention pooling
    as in SigLIP, or a mean).

    Patches are the tokens after the final norm; where that stands behind the pooling (`fc_norm`), after it.
    """

    def __init__(self, vit: nn.Module, config: ImageEncoderConfig):
        use_product_attention(vit)
        use_lean_layers(vit)
        super().__init__(vit, config)
        self.vit = vit
        self.width = vit.num_features
        self.grid = vit.patch_embed.grid_size
        self.has_class_token = getattr(vit, "cls_token", None) is not None
        self.can_drop_patches = hasattr(vit, "patch_drop")
        if self.can_drop_patches:
            vit.patch_drop = PatchDrop(vit.num_prefix_tokens, with_indices=isinstance(vit, Eva))

    @property
    def backbone(self) -> nn.Module:
        """The ViT."""
        return self.vit

    @property
    def positions(self) -> nn.Parameter | None:
        """As of any image encoder."""
        return getattr(self.vit, "pos_embed", None)

    def tokens(self, features: Tensor) -> Tensor:
        """[B, 1 + patches, width], as `ImageEncoder` says.

        Register and distillation tokens, where a ViT has them, are left out.
        """
        with self._gradients():
            if not self.has_class_token:
                patches = self.final_norm(features[:, self.vit.num_prefix_tokens :])
                return torch.cat([self._pool(features, patches)[:, None], patches], dim=1)
            if self.vit.num_prefix_tokens > 1:
                features = torch.cat([features[:, :1], features[:, self.vit.num_prefix_tokens :]], dim=1)
            return self.final_norm(features)

    def _run(self, image: Tensor, patch_drop: float = 0.0) -> Tensor:
        """All tokens of the ViT."""
        if patch_drop == 0:
            return self.vit(image)
        if not self.can_drop_patches:
            raise InputError(cannot_drop(patch_drop, type(self.vit).__name__))
        self.vit.patch_drop.share = patch_drop
        try:
            return self.vit(image)
        finally:
            self.vit.patch_drop.share = 0.0

    def final_norm(self, tokens: Tensor) -> Tensor:
        """The norm that timm has behind its pooling, where it has one there, of tokens after `vit.norm`."""
        behind_pooling = isinstance(self.vit.norm, nn.Identity) and hasattr(self.vit, "fc_norm")
        return self.vit.fc_norm(tokens) if behind_pooling else tokens

    def _pool(self, tokens: Tensor, patches: Tensor) -> Tensor:
        return self.vit.forward_head(tokens, pre_logits=True) if self.vit.global_pool else patches.mean(dim=1)


class PatchDrop(nn.Module):
    """What a ViT of timm calls between its positions and its blocks: leaves out `share` of the patches.

    prefix_tokens, which come first, all stay. with_indices: gives, beside the tokens, which patches are left, None for
    all: by these rotary positions follow their patches.
    """

    def __init__(self, prefix_tokens: int, with_indices: bool):
        super().__init__()
        self.prefix_tokens, self.with_indices = prefix_tokens, with_indices
        self.share = 0.0

    def forward(self, tokens: Tensor) -> Tensor | tuple[Tensor, Tensor | None]:
        """[B, prefix tokens + patches, width] -> the same with fewer patches, at least one."""
        # In eval mode, too: a frozen ViT is in eval mode, and who asks for fewer patches shall get fewer.
        left, indices = patch_dropout_forward(tokens, self.share, self.prefix_tokens, ordered=False, training=True)
        return (left, indices) if self.with_indices else left
