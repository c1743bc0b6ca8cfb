"""What TCL's forward pass keeps, as an estimate."""

from tcl.config.tcl_objective import ObjectiveConfig
from tcl.models.activation_memory import (
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
    B, L, fusion = sizes.batch_size, sizes.max_tokens, encoders.fusion_encoder
    candidates = B * sizes.processes if objective.global_negatives else B
    plain, masked = int(objective.embeds), int(objective.mlm_weight > 0)
    pairs = 3 if objective.matches else 0
    layers = image_layers(encoders.image_encoder, B)
    layers += text_layers(encoders.text_encoder, (plain + masked) * B * L)
    layers += fusion_layers(fusion, (pairs + masked) * B * L)
    layers += compression_layers(fusion, encoders.image_encoder, B)
    images = (2 if pairs else masked) * B  # each image, and each that was drawn as a negative
    locals_of_sample = L - 1 + sizes.lmi_regions**2 if objective.lmi_weight > 0 else 0
    vocabulary = encoders.text_encoder.word_embeddings.num_embeddings
    logits = B * candidates * locals_of_sample + masked * B * L * objective.mlm_probability * vocabulary
    if objective.circle_weight > 0:
        logits += 4 * B * (candidates + objective.queue_size)  # both ways, as cosines and as exponents
    if objective.dsl_weight > 0:
        logits += 6 * (B * sizes.processes) ** 2  # both ways, as logits, priors and log-probabilities
    kept = keys_values(fusion, images * seen_tokens(fusion, encoders.image_encoder))
    return kept_bytes(layers, kept, logits, checkpointing=sizes.checkpointing, bf16=sizes.bf16)
