"""What TCL's forward pass keeps, as an estimate."""

from tcl.config.tcl_objective import ObjectiveConfig
from tcl.models.activation_memory import (
    Layers,
    compression_layers,
    fusion_layers,
    image_layers,
    kept_bytes,
    keys_values,
    seen_tokens,
    text_layers,
)
from tcl.models.encoders import Encoders
from tcl.objectives.pair_objective import PairSizes


def pair_activation_bytes(encoders: Encoders, objective: ObjectiveConfig, sizes: PairSizes) -> float:
    """Of the student, over a batch of pairs with the longest texts, per device."""
    B, L = sizes.batch_size, sizes.max_tokens
    candidates = B * sizes.processes if objective.global_negatives else B
    texts = int(objective.embeds) + int(objective.mlm_weight > 0)
    layers, kept, logits = _fused(encoders, objective, sizes)
    layers += image_layers(encoders.image_encoder, B) + text_layers(encoders.text_encoder, texts * B * L)
    locals_of_sample = L - 1 + sizes.lmi_regions**2 if objective.lmi_weight > 0 else 0
    logits += B * candidates * locals_of_sample
    if objective.circle_weight > 0:
        logits += 4 * B * (candidates + objective.queue_size)  # both ways, as cosines and as exponents
    if objective.dsl_weight > 0:
        logits += 6 * (B * sizes.processes) ** 2  # both ways, as logits, priors and log-probabilities
    return kept_bytes(layers, kept, logits, checkpointing=sizes.checkpointing, bf16=sizes.bf16)


def compression_activation_bytes(encoders: Encoders, objective: ObjectiveConfig, sizes: PairSizes) -> float:
    """As `pair_activation_bytes`, where the encoders of images and texts are frozen and keep nothing."""
    layers, kept, logits = _fused(encoders, objective, sizes)
    return kept_bytes(layers, kept, logits, checkpointing=sizes.checkpointing, bf16=sizes.bf16)


def _fused(encoders: Encoders, objective: ObjectiveConfig, sizes: PairSizes) -> tuple[Layers, float, float]:
    """Layers of the compression and the fusion encoder, keys and values, logits of MLM."""
    B, L, fusion = sizes.batch_size, sizes.max_tokens, encoders.fusion_encoder
    masked, pairs = int(objective.mlm_weight > 0), 3 if objective.matches else 0
    layers = compression_layers(fusion, encoders.image_encoder, B) + fusion_layers(fusion, (pairs + masked) * B * L)
    images = (2 if pairs else masked) * B  # each image, and each that was drawn as a negative
    vocabulary = encoders.text_encoder.word_embeddings.num_embeddings
    logits = masked * B * L * objective.mlm_probability * vocabulary
    return layers, keys_values(fusion, images * seen_tokens(fusion, encoders.image_encoder)), logits
