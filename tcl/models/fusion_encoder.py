"""Fusion encoder: text tokens look at image tokens (ALBEF section 3.1; TCL section 3.4).

Each layer is self-attention over the text, cross-attention to the image, feed-forward; post-norm as in BERT. Image
keys and values do not depend on the text: they are computed once per image and shared by every text paired with it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN


@dataclass
class ImageKeysValues:
    """One layer's view of I images: keys and values, each [I, heads, N, width / heads]."""

    keys: Tensor
    values: Tensor


class Attention(nn.Module):
    """Multi-head attention with its output projection, dropout, residual and norm (post-norm)."""

    def __init__(self, width: int, source_width: int, config: PreTrainedConfig):
        super().__init__()
        self.heads: int = config.num_attention_heads
        self.attention_dropout: float = config.attention_probs_dropout_prob
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(source_width, width)
        self.value = nn.Linear(source_width, width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def split_heads(self, x: Tensor) -> Tensor:
        """[R, L, width] -> [R, heads, L, width / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """x [R, L, width], keys and values [R, heads, S, width / heads], mask bool broadcast to [R, heads, L, S]."""
        dropout = self.attention_dropout if self.training else 0.0
        queries = self.split_heads(self.query(x))
        context = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, dropout_p=dropout)
        return self.norm(x + self.dropout(self.out(context.transpose(1, 2).flatten(2))))


class FeedForward(nn.Module):
    """Two linear layers, dropout, residual and norm (post-norm)."""

    def __init__(self, width: int, config: PreTrainedConfig):
        super().__init__()
        self.up = nn.Linear(width, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.down = nn.Linear(config.intermediate_size, width)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """[R, L, width] -> [R, L, width]."""
        return self.norm(x + self.dropout(self.down(self.activation(self.up(x)))))


class FusionLayer(nn.Module):
    """Self-attention, cross-attention, feed-forward."""

    def __init__(self, image_width: int, config: PreTrainedConfig):
        super().__init__()
        width = config.hidden_size
        self.self_attention = Attention(width, width, config)
        self.cross_attention = Attention(width, image_width, config)
        self.feed_forward = FeedForward(width, config)

    def image_keys_values(self, image_tokens: Tensor) -> ImageKeysValues:
        """[I, N, image width] -> this layer's keys and values of each image."""
        cross = self.cross_attention
        return ImageKeysValues(cross.split_heads(cross.key(image_tokens)), cross.split_heads(cross.value(image_tokens)))

    def forward(self, text: Tensor, mask: Tensor, image: ImageKeysValues, image_index: Tensor) -> Tensor:
        """text [R, L, width], mask bool [R, 1, 1, L], image_index [R]: which image each row looks at."""
        attention = self.self_attention
        keys, values = attention.split_heads(attention.key(text)), attention.split_heads(attention.value(text))
        text = attention(text, keys, values, mask)
        keys, values = image.keys.index_select(0, image_index), image.values.index_select(0, image_index)
        return self.feed_forward(self.cross_attention(text, keys, values, None))


class FusionEncoder(nn.Module):
    """A stack of fusion layers. `config` is the text encoder's transformers config (sizes, dropout, activation)."""

    def __init__(self, layers: int, image_width: int, config: PreTrainedConfig):
        super().__init__()
        self.layers = nn.ModuleList(FusionLayer(image_width, config) for _ in range(layers))
        self.activation_checkpointing = False

    def image_keys_values(self, image_tokens: Tensor) -> list[ImageKeysValues]:
        """[I, N, image width] -> keys and values of each image for every layer."""
        return [layer.image_keys_values(image_tokens) for layer in self.layers]

    def forward(
        self, text: Tensor, attention_mask: Tensor, images: list[ImageKeysValues], image_index: Tensor
    ) -> Tensor:
        """Fuse R texts with one image each.

        text [R, L, width], attention_mask [R, L] (1 token, 0 padding), images from `image_keys_values` for I images,
        image_index [R] in 0..I-1 -> [R, L, width]; token 0 is [CLS].
        """
        mask = attention_mask.bool()[:, None, None, :]
        for layer, image in zip(self.layers, images, strict=True):
            if self.activation_checkpointing and torch.is_grad_enabled():
                text = checkpoint(layer, text, mask, image, image_index, use_reentrant=False)
            else:
                text = layer(text, mask, image, image_index)
        return text


# Where the weights of a transformers BertLayer go in a FusionLayer; "crossattention.*" exists only in published
# TCL / ALBEF checkpoints, whose cross-attention has the same parts.
BERT_LAYER_NAMES = {
    "attention.self.query": "self_attention.query",
    "attention.self.key": "self_attention.key",
    "attention.self.value": "self_attention.value",
    "attention.output.dense": "self_attention.out",
    "attention.output.LayerNorm": "self_attention.norm",
    "crossattention.self.query": "cross_attention.query",
    "crossattention.self.key": "cross_attention.key",
    "crossattention.self.value": "cross_attention.value",
    "crossattention.output.dense": "cross_attention.out",
    "crossattention.output.LayerNorm": "cross_attention.norm",
    "intermediate.dense": "feed_forward.up",
    "output.dense": "feed_forward.down",
    "output.LayerNorm": "feed_forward.norm",
}


def fusion_encoder_from_bert(bert_layers: nn.ModuleList, image_width: int, config: PreTrainedConfig) -> FusionEncoder:
    """A fusion encoder whose layers start as `bert_layers`; cross-attention, which BERT lacks, starts random."""
    fusion = FusionEncoder(len(bert_layers), image_width, config)
    for layer, bert_layer in zip(fusion.layers, bert_layers, strict=True):
        for module in layer.cross_attention.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=config.initializer_range)
                nn.init.zeros_(module.bias)
        weights = {}
        for name, tensor in bert_layer.state_dict().items():
            module_name, parameter_name = name.rsplit(".", 1)
            weights[f"{BERT_LAYER_NAMES[module_name]}.{parameter_name}"] = tensor
        layer.load_state_dict(weights, strict=False)
    return fusion
