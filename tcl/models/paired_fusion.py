"""Fusion encoder for texts about two images: each layer is doubled, and its copies look at one image each (ALBEF,
section 5, NLVR2).

The two layers of a pair stand behind each other: the first looks at the first image, the second at the second. Keys and
values of both are computed by the same weights, which are one parameter, the first layer's; all else is each layer's
own.
"""

import re

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tcl.models.fusion_encoder import FusionEncoder, FusionLayer, KeysValues

SHARED = ("cross_attention.key.", "cross_attention.value.")
"""Parameters of a layer that its pair has once."""
_LAYER = re.compile(r"(.*\bfusion_encoder\.layers\.\d+\.)((?:self_attention|cross_attention|feed_forward)\..+)")


class LayerPair(nn.Module):
    """A fusion layer and a copy of it, which has no keys and values of its own."""

    def __init__(self, layer: FusionLayer, fusion: FusionEncoder):
        super().__init__()
        self.first = layer
        self.second = FusionLayer(None, fusion.config)
        own = {name: weight for name, weight in layer.state_dict().items() if not name.startswith(SHARED)}
        self.second.load_state_dict(own)

    def forward(self, text: Tensor, mask: Tensor, first: KeysValues, second: KeysValues) -> Tensor:
        """text [R, L, width], mask bool broadcast to [R, 1, L, L], keys and values of the two images of each row."""
        return self.second(self.first(text, mask, first), mask, second)


class PairedFusion(nn.Module):
    """`fusion` with each of its layers doubled, those of a pair alike at first, and its compression, if any, of both
    images. `layers` are the pairs."""

    def __init__(self, fusion: FusionEncoder):
        super().__init__()
        self.layers = nn.ModuleList(LayerPair(layer, fusion) for layer in fusion.layers)
        self.text_in = fusion.text_in
        self.config = fusion.config
        self.width: int = fusion.width
        self.compression = fusion.compression
        self.activation_checkpointing = False

    def configure_layers(self, *, activation_checkpointing: bool, fused_attention: bool) -> None:
        """As `FusionEncoder.configure_layers`."""
        self.activation_checkpointing = activation_checkpointing

    def image_keys_values(self, image_tokens: Tensor) -> list[KeysValues]:
        """[I, N, image width] -> keys and values of each image for every pair, whichever of its layers looks there."""
        compressed = image_tokens if self.compression is None else self.compression(image_tokens)
        return [pair.first.cross_attention.keys_values(compressed) for pair in self.layers]

    def forward(
        self, text: Tensor, attention_mask: Tensor, first: list[KeysValues], second: list[KeysValues]
    ) -> Tensor:
        """Texts [R, L, text width] with mask [R, L] (1 token, 0 padding), and for each pair of layers the keys and
        values of R first and R second images -> [R, L, width]; token 0 is [CLS]."""
        text = text if self.text_in is None else self.text_in(text)
        mask = attention_mask.bool()[:, None, None, :]
        for pair, one, other in zip(self.layers, first, second, strict=True):
            if self.activation_checkpointing and torch.is_grad_enabled():
                text = checkpoint(pair, text, mask, one, other, use_reentrant=False)
            else:
                text = pair(text, mask, one, other)
        return text


def doubled(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of networks with a FusionEncoder by those names that networks with a PairedFusion have; those of one that
    is paired already stay as they are."""
    found: dict[str, Tensor] = {}
    for name, weight in weights.items():
        layer = _LAYER.fullmatch(name)
        if layer is None:
            found[name] = weight
            continue
        found[f"{layer[1]}first.{layer[2]}"] = weight
        if not layer[2].startswith(SHARED):
            found[f"{layer[1]}second.{layer[2]}"] = weight
    return found
