"""Estimates of what a student's forward pass keeps for its backward pass, from the sizes of its networks."""

from torch import nn

from tcl.encoders.frame_mixing import FrameAttention
from tcl.encoders.image_encoder import ImageEncoder
from tcl.encoders.lean_layers import LeanBlock
from tcl.encoders.text_encoder import TextEncoder
from tcl.encoders.video import VideoEncoder

SAVED_PER_TOKEN = 17
"""Activations that a transformer layer saves for its backward pass, in widths per token (34 bytes a width in 16 bit,
Korthikanti et al. 2022, table 2, without the attention scores, which SDPA does not keep)."""
SAVED_BY_LEAN_BLOCK = 12
"""Of these, what a block of tcl.encoders.lean_layers saves: what its norms are given (fp32: twice), queries, keys,
values, what they attend to, and what the activation is given."""
SAVED_BY_FRAME_ATTENTION = 6
"""Beside those, by attention over frames in each block: 6.03 measured, of 8 frames of a ViT of width 192."""
SAVED_BY_FUSION_LAYER = SAVED_PER_TOKEN - 4 + 6
"""Without what its activation gives, with those of its cross-attention: query, context, output, residual and norm."""

Layers = list[tuple[int, float, int]]
"""(how many layers, their tokens times their width, what each saves in multiples of that)."""


def image_layers(encoder: ImageEncoder, images: int) -> Layers:
    """Those that encode `images`; a frozen network keeps nothing."""
    if encoder.frozen:
        return []
    if encoder.kept_elements is not None:
        return [(1, images * encoder.kept_elements, 1)]
    saved = SAVED_BY_LEAN_BLOCK if all(isinstance(layer, LeanBlock) for layer in encoder.layers) else SAVED_PER_TOKEN
    return [(len(encoder.layers), images * tokens_of_image(encoder) * encoder.width, saved)]


def mixing_layers(video: VideoEncoder, clips: int) -> Layers:
    """What attention over the frames of `clips` keeps, beside the blocks that it stands in."""
    mixers = [one for one in video.mixers if isinstance(one, FrameAttention)]
    tokens = clips * video.frames * tokens_of_image(video.image_encoder)
    return [(len(mixers), tokens * video.width, SAVED_BY_FRAME_ATTENTION)] if mixers else []


def text_layers(encoder: TextEncoder, tokens: int) -> Layers:
    """Those that encode texts of `tokens` in all, padding included; a frozen model keeps nothing."""
    return [] if encoder.frozen else [(len(encoder.layers), tokens * encoder.width, SAVED_PER_TOKEN)]


def fusion_layers(fusion: nn.Module, tokens: int) -> Layers:
    """Those that fuse texts of `tokens` in all with images; of an answer decoder, answers with questions."""
    return [(len(fusion.layers), tokens * fusion.width, SAVED_BY_FUSION_LAYER)]


def tokens_of_image(encoder: ImageEncoder) -> int:
    """Tokens of an image, the global one included."""
    return 1 + encoder.patches


def compression_layers(fusion: nn.Module, encoder: ImageEncoder, images: int) -> Layers:
    """Those between the two, which compress the tokens of `images`, where there are any: what the layer looks at, with
    keys and values, is of all tokens, the rest of the few."""
    if fusion.compression is None:
        return []
    all_tokens, few = (
        images * count * encoder.width for count in (tokens_of_image(encoder), fusion.compression.tokens)
    )
    return [(1, all_tokens, 3), (1, few, SAVED_PER_TOKEN)]


def seen_tokens(fusion: nn.Module, encoder: ImageEncoder) -> int:
    """Tokens of an image that the layers of `fusion` look at."""
    return tokens_of_image(encoder) if fusion.compression is None else fusion.compression.tokens


def keys_values(fusion: nn.Module, source_tokens: int) -> float:
    """Elements of the keys and values of what all layers of `fusion` look at, which checkpointing keeps as well."""
    return 2 * len(fusion.layers) * source_tokens * fusion.width


def kept_bytes(layers: Layers, keys_values: float, logits: float, *, checkpointing: bool, bf16: bool) -> float:
    """Bytes at the end of the forward pass; logits: elements of all of them, which are fp32."""
    if checkpointing:  # each layer's input, and one layer as it is computed again
        saved = sum(count * size for count, size, _ in layers) + max(
            (size * kept for _, size, kept in layers), default=0
        )
    else:
        saved = sum(count * size * kept for count, size, kept in layers)
    return (2 if bf16 else 4) * (saved + keys_values) + 4 * 3 * logits  # logits, their softmax, its gradient
