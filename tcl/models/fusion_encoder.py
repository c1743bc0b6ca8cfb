"""Fusion encoder: text tokens look at image tokens (ALBEF section 3.1; TCL section 3.4).

Each layer is self-attention over the text, cross-attention to the image, feed-forward; post-norm as in BERT. Image
keys and values do not depend on the text: they are computed once per image and shared by every text paired with it.
The same layers, masked to look back only, make the answer decoder (tcl.models.answer_decoder), whose "image" is the
fused question.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from tcl.encoders.dropout import Dropout
from tcl.encoders.lean_layers import computed_again
from tcl.encoders.product_attention import as_products_take
from tcl.models.attention import attend, attention_weights


@dataclass
class KeysValues:
    """What one attention layer sees of I images (or texts): each [I, heads, N, width / heads]."""

    keys: Tensor
    values: Tensor
    mask: Tensor | None = None
    """bool [I, 1, 1, N], False where there is nothing to see; None: all of it counts."""

    def rows(self, index: Tensor) -> "KeysValues":
        """Those of images `index` [R], one for each of R texts. A copy: where texts share an image in order, none is
        needed (see FusionEncoder.forward)."""
        mask = None if self.mask is None else self.mask.index_select(0, index)
        return KeysValues(self.keys.index_select(0, index), self.values.index_select(0, index), mask)

    def part(self, place: int, parts: int) -> "KeysValues":
        """Those of part `place` of the images, which are so many `parts` of equal size behind each other; no copy."""
        mask = None if self.mask is None else self.mask.unflatten(0, (parts, -1))[place]
        keys, values = (tensor.unflatten(0, (parts, -1))[place] for tensor in (self.keys, self.values))
        return KeysValues(keys, values, mask)


class Attention(nn.Module):
    """Multi-head attention with its output projection, dropout, residual and norm (post-norm)."""

    def __init__(self, width: int, source_width: int | None, config: PreTrainedConfig):
        """source_width: of what it looks at; None: its keys and values are those of another layer."""
        super().__init__()
        self.heads: int = config.num_attention_heads
        self.attention_dropout: float = config.attention_probs_dropout_prob
        self.query = nn.Linear(width, width)
        self.key = None if source_width is None else nn.Linear(source_width, width)
        self.value = None if source_width is None else nn.Linear(source_width, width)
        self.out = nn.Linear(width, width)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def split_heads(self, x: Tensor) -> Tensor:
        """[R, L, width] -> [R, heads, L, width / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def keys_values(self, source: Tensor, mask: Tensor | None = None) -> KeysValues:
        """source [I, N, source width], mask bool [I, 1, 1, N]."""
        return KeysValues(self.split_heads(self.key(source)), self.split_heads(self.value(source)), mask)

    def forward(
        self, x: Tensor, source: KeysValues, mask: Tensor | None = None, others: KeysValues | None = None
    ) -> Tensor:
        """x [R, L, width] looks at a source of R rows, or of I rows where R = I * P and each serves P rows of x.

        mask bool, broadcast to [R, heads, L, N], instead of the source's own. others, of E rows: the last E rows of x
        look at these, one each, and R counts those before them.
        """
        if others is None:
            context = self._context(x, source, mask)
        else:
            first, last = x.split([len(x) - len(others.keys), len(others.keys)])
            context = torch.cat([self._context(first, source, mask), self._context(last, others)])
        return self._add(x, context)

    def _context(self, x: Tensor, source: KeysValues, mask: Tensor | None = None) -> Tensor:
        dropout = self.attention_dropout if self.training else 0.0
        sources = len(source.keys)
        # Rows that share a source are one long row of queries: keys and values are not repeated.
        queries = self.split_heads(self.query(x if sources == len(x) else x.reshape(sources, -1, x.shape[-1])))
        mask = source.mask if mask is None else mask
        context = attend(queries, source.keys, source.values, mask, dropout)
        return context.transpose(1, 2).reshape(x.shape)

    def probabilities(self, x: Tensor, source: KeysValues) -> Tensor:
        """How much each token of x [R, L, width] looks at each of a source of R rows: [R, heads, L, N], sum 1 over N.

        `forward` computes the same, but its fused kernel does not show them.
        """
        return attention_weights(self.split_heads(self.query(x)), source.keys, source.mask)

    def look(self, x: Tensor, source: KeysValues, probabilities: Tensor) -> Tensor:
        """`forward` by given `probabilities`, without dropout of them."""
        return self._add(x, (probabilities @ source.values).transpose(1, 2).reshape(x.shape))

    def _add(self, x: Tensor, context: Tensor) -> Tensor:
        return self.norm(x + self.dropout(self.out(context)))


class FeedForward(nn.Module):
    """Two linear layers, dropout, residual and norm (post-norm)."""

    def __init__(self, width: int, config: PreTrainedConfig):
        super().__init__()
        self.up = nn.Linear(width, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]
        self.down = nn.Linear(config.intermediate_size, width)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.lean = True  # see keep_whole

    def forward(self, x: Tensor) -> Tensor:
        """[R, L, width] -> [R, L, width]."""
        up = self.up(x)
        down = computed_again(self.activation, self.down, up) if self.lean else self.down(self.activation(up))
        return self.norm(x + self.dropout(down))


class FusionLayer(nn.Module):
    """Self-attention, cross-attention, feed-forward. image_width: as `Attention`'s source_width."""

    def __init__(self, image_width: int | None, config: PreTrainedConfig):
        super().__init__()
        width = config.hidden_size
        self.self_attention = Attention(width, width, config)
        self.cross_attention = Attention(width, image_width, config)
        self.feed_forward = FeedForward(width, config)

    def read_text(self, text: Tensor, mask: Tensor, cls_only: bool = False) -> Tensor:
        """Self-attention: text [R, L, width], mask bool broadcast to [R, 1, L, L] -> [R, L or 1, width]."""
        source = as_products_take(text)
        return self.self_attention(text[:, :1] if cls_only else text, self.self_attention.keys_values(source), mask)

    def look_at_image(self, text: Tensor, image: KeysValues, others: KeysValues | None = None) -> Tensor:
        """Cross-attention and feed-forward: text [R, L, width]; which image each row looks at, see FusionEncoder."""
        return self.feed_forward(self.cross_attention(text, image, others=others))

    def forward(self, text: Tensor, mask: Tensor, image: KeysValues, others: KeysValues | None = None) -> Tensor:
        """The whole layer; arguments as above."""
        return self.look_at_image(self.read_text(text, mask), image, others)


class FusionEncoder(nn.Module):
    """A stack of fusion layers. `config` is a BERT's transformers config (sizes, dropout, activation).

    `width` is that of its tokens. text_width: of the tokens that it is given, where it is another.
    """

    def __init__(self, layers: int, image_width: int, config: PreTrainedConfig, text_width: int | None = None):
        super().__init__()
        self.layers = nn.ModuleList(FusionLayer(image_width, config) for _ in range(layers))
        self.config = config
        self.width: int = config.hidden_size
        self.text_in = None if text_width in (None, self.width) else nn.Linear(text_width, self.width)
        self.compression: nn.Module | None = None
        """tcl.models.compress_tokens, where the layers look at few tokens of an image."""
        self.activation_checkpointing = False

    def configure_layers(self, *, activation_checkpointing: bool, fused_attention: bool) -> None:
        """How the layers are run. activation_checkpointing: computed again in the backward pass. fused_attention: no
        difference here, texts are too short for it."""
        self.activation_checkpointing = activation_checkpointing

    def to_width(self, text: Tensor) -> Tensor:
        """Tokens of the text encoder [..., text width] -> [..., width], as the first layer takes them."""
        return text if self.text_in is None else self.text_in(text)

    def compress(self, image_tokens: Tensor) -> Tensor:
        """Tokens of the image encoder [I, N, image width] -> those that the layers look at [I, M, image width]: few
        where there is a compression, or else themselves."""
        return image_tokens if self.compression is None else self.compression(image_tokens)

    def keys_values(self, compressed: Tensor) -> list[KeysValues]:
        """[I, M, image width], from `compress` -> keys and values of each image for every layer."""
        compressed = as_products_take(compressed)
        return [layer.cross_attention.keys_values(compressed) for layer in self.layers]

    def image_keys_values(self, image_tokens: Tensor) -> list[KeysValues]:
        """Tokens of the image encoder [I, N, image width] -> keys and values of each image for every layer."""
        return self.keys_values(self.compress(image_tokens))

    def forward(
        self,
        text: Tensor,
        attention_mask: Tensor,
        images: list[KeysValues],
        others: list[KeysValues] | None = None,
    ) -> Tensor:
        """Fuse texts with one image each.

        text [I * P + E, L, text width], attention_mask [I * P + E, L] (1 token, 0 padding), images of I images from
        `keys_values`: the first P texts look at image 0, the next P at image 1, ... others, of E images: each of
        the last E texts looks at one of them. -> [I * P + E, L, width]; token 0 is [CLS].
        """
        text = self.to_width(text)
        mask = attention_mask.bool()[:, None, None, :]
        others = [None] * len(self.layers) if others is None else others
        for layer, image, other in zip(self.layers, images, others, strict=True):
            if self.activation_checkpointing and torch.is_grad_enabled():
                text = checkpoint(layer, text, mask, image, other, use_reentrant=False)
            else:
                text = layer(text, mask, image, other)
        return text

    def read_texts(self, text: Tensor, attention_mask: Tensor) -> Tensor:
        """The first layer's self-attention, which no image has a part in: once per text, for `match`.

        text [R, L, text width], attention_mask [R, L] -> [R, L, width].
        """
        return self.layers[0].read_text(self.to_width(text), attention_mask.bool()[:, None, None, :])

    def match(self, read: Tensor, attention_mask: Tensor, images: list[KeysValues]) -> Tensor:
        """forward(...)[:, 0], [R, width], of R = I * P texts, without what the last layer computes for other tokens.

        read [R, L, width] comes from `read_texts`, attention_mask is [R, L].
        """
        mask, last = attention_mask.bool()[:, None, None, :], len(self.layers) - 1
        text = read
        for i, (layer, image) in enumerate(zip(self.layers, images, strict=True)):
            if i > 0:
                text = layer.read_text(text, mask, cls_only=i == last)
            text = layer.look_at_image(text[:, :1] if i == last else text, image)
        return text[:, 0]


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


def fusion_encoder_from_bert(
    bert_layers: nn.ModuleList, image_width: int, config: PreTrainedConfig, text_width: int | None = None
) -> FusionEncoder:
    """A fusion encoder whose layers start as `bert_layers`; what BERT lacks, as cross-attention, starts random."""
    fusion = FusionEncoder(len(bert_layers), image_width, config, text_width)
    if fusion.text_in is not None:
        start_random(fusion.text_in, config)
    for layer, bert_layer in zip(fusion.layers, bert_layers, strict=True):
        start_random(layer.cross_attention, config)
        weights = {}
        for name, tensor in bert_layer.state_dict().items():
            module_name, parameter_name = name.rsplit(".", 1)
            weights[f"{BERT_LAYER_NAMES[module_name]}.{parameter_name}"] = tensor
        layer.load_state_dict(weights, strict=False)
    return fusion


def random_fusion_encoder(layers: int, image_width: int, config: PreTrainedConfig, text_width: int) -> FusionEncoder:
    """A fusion encoder that starts as BERT's pre-training does."""
    fusion = FusionEncoder(layers, image_width, config, text_width)
    start_random(fusion, config)
    return fusion


def start_random(module: nn.Module, config: PreTrainedConfig) -> None:
    """Linear layers within `module`, which may be one itself: normal weights, biases of 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=config.initializer_range)
            nn.init.zeros_(part.bias)
