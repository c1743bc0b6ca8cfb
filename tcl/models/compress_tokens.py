"""Few tokens of an image for the fusion encoder, in place of one for each patch (EDJE, arXiv 2510.06820, section 3).

M learned queries look at the image's tokens once; a feed-forward layer follows; both are post-norm, as in the fusion
encoder.
The embeddings of images, and with them all contrastive losses, never see what comes out.
"""

from functools import partial

import torch
from torch import Tensor, nn
from transformers import BertConfig

from tcl.encoders.bounded_memory import refuse_too_large
from tcl.encoders.image_encoder import ImageEncoder
from tcl.errors import InputError
from tcl.models.activation_memory import tokens_of_image
from tcl.models.fusion_encoder import Attention, FeedForward, start_random

WEIGHTS = "fusion_encoder.compression."
"""Where its weights are among those of a model's networks, as the beginning of their names."""
_QUERIES = 0.1
"""Standard deviation of the queries at the start, small beside tokens, to which they are added."""


class TokenCompression(nn.Module):
    """[I, N, width] -> [I, tokens, width]: learned queries, one cross-attention, feed-forward.

    It starts as a mean of tokens, weighted by how like they are to each query's own direction: the linear layers of the
    attention are the identity (the query's divided by `_QUERIES`), and the feed-forward layer adds nothing. A fusion
    encoder that knows all tokens is thus given what looks like them.
    """

    def __init__(self, tokens: int, width: int):
        super().__init__()
        self.tokens = tokens
        sizes = {"hidden_size": width, "num_attention_heads": _heads(width), "intermediate_size": 4 * width}
        config = BertConfig(**sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        self.queries = nn.Parameter(torch.empty(tokens, width).normal_(std=_QUERIES))
        self.attention = Attention(width, width, config)
        self.feed_forward = FeedForward(width, config)
        start_random(self, config)
        for linear in (self.attention.query, self.attention.key, self.attention.value, self.attention.out):
            nn.init.eye_(linear.weight)
        with torch.no_grad():
            self.attention.query.weight /= _QUERIES
        nn.init.zeros_(self.feed_forward.down.weight)

    def forward(self, image_tokens: Tensor) -> Tensor:
        """Tokens of I images [I, N, width] -> [I, tokens, width]."""
        source = self.attention.keys_values(image_tokens)
        return self.feed_forward(self.attention(self._queries_of(image_tokens), source))

    def looks(self, image_tokens: Tensor) -> Tensor:
        """How much each of the few tokens looks at each of the image's, mean over the heads: [I, tokens, N], sum 1."""
        source = self.attention.keys_values(image_tokens)
        return self.attention.probabilities(self._queries_of(image_tokens), source).mean(dim=1)

    def _queries_of(self, image_tokens: Tensor) -> Tensor:
        return self.queries.expand(len(image_tokens), -1, -1)


def build_compression(tokens: int | None, image_encoder: ImageEncoder) -> TokenCompression | None:
    """To `tokens` of each image (model.fusion.image_tokens); None: the fusion encoder sees them all.

    InputError: more than an image has, or weights that take more memory than there is.
    """
    if tokens is None:
        return None
    most = tokens_of_image(image_encoder)
    if tokens > most:
        raise InputError(
            f"model.fusion.image_tokens: {tokens} is not possible; accepted: 1 to {most}, which an image of this "
            f"encoder has, or null for all of them"
        )
    build = partial(TokenCompression, tokens, image_encoder.width)
    refuse_too_large(build, "model.fusion.image_tokens")
    return build()


def _heads(width: int) -> int:
    """About one for each 64 of the width, as many as divide it."""
    return max(heads for heads in range(1, max(1, width // 64) + 1) if width % heads == 0)
