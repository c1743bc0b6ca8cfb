"""One block of a ViT with its attention in the open, where fused kernels do not show it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.layers import Attention
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from tcl.encoders.image_encoder import ImageEncoder
from tcl.encoders.vit_encoder import ViTEncoder
from tcl.errors import InputError


def check_watchable(encoder: ImageEncoder, field: str, value: object) -> None:
    """InputError, naming the option `field` and its value: blocks of this encoder do not show what [CLS] looks at."""
    plain = isinstance(encoder, ViTEncoder) and isinstance(encoder.vit, VisionTransformer) and encoder.has_class_token
    if not plain or not all(isinstance(getattr(block, "attn", None), Attention) for block in encoder.layers):
        raise InputError(
            f"{field}: {value!r} needs a plain ViT with a [CLS] token, which model.image.name is not; accepted: 'itm'"
        )


@torch.no_grad()
def run_to(encoder: ViTEncoder, image: Tensor, block: int) -> Tensor:
    """image [B, 3, H, W] -> the tokens [B, N, width] that `block` is given."""
    given: list[Tensor] = []
    handle = encoder.layers[block].register_forward_pre_hook(lambda _, arguments: given.append(arguments[0]))
    try:
        encoder.features(image)
    finally:
        handle.remove()
    return given[0]


def run_from(encoder: ViTEncoder, tokens: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """The rest of the ViT, from what `block` is given [B, N, width].

    -> the global token [B, width], as a function of the attention probabilities of the block [B, heads, N, N].
    """
    with _shown(encoder.layers[block].attn) as probabilities:
        for layer in encoder.layers[block:]:
            tokens = layer(tokens)
    return encoder.final_norm(encoder.vit.norm(tokens))[:, 0], probabilities[0]


@contextmanager
def _shown(attention: Attention) -> Iterator[list[Tensor]]:
    """Within it the attention's probabilities appear in the list, as leaves that the rest depends on."""
    found: list[Tensor] = []

    def show(module: torch.nn.Module, arguments: tuple, probabilities: Tensor) -> Tensor:
        found.append(probabilities.detach().requires_grad_())
        return found[-1]

    fused, handle = attention.fused_attn, attention.attn_drop.register_forward_hook(show)
    attention.fused_attn = False
    try:
        yield found
    finally:
        handle.remove()
        attention.fused_attn = fused
