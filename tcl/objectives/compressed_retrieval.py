"""A TCL whose images and texts are found by codes (HCQ, arXiv 2202.03384), and matched by the fusion encoder as before.

Trained are the heads and, by soft assignment, the codebooks; the towers with them, unless model.image.frozen and
model.text.frozen leave them as they are; and with objective.itm_weight the fusion encoder and its ITM head, which would
otherwise be left behind by towers that move. The contrast is over the batches of all processes.
"""

from dataclasses import asdict

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tcl.config.model import ModelConfig
from tcl.config.quantise import CodeSizes, CompressedObjective, QuantiseConfig
from tcl.config.tcl_objective import ObjectiveConfig
from tcl.data.batch import Batch
from tcl.losses.hybrid_contrast import debiased_contrast, level_similarities
from tcl.losses.itm import ACCURACY_PRIOR, image_text_matching, matching_labels
from tcl.models.activation_memory import (
    compression_layers,
    fusion_layers,
    image_layers,
    kept_bytes,
    keys_values,
    seen_tokens,
    text_layers,
    tokens_of_image,
)
from tcl.models.compressed_encoders import CompressedEncoders
from tcl.models.compressed_heads import CompressedHeads
from tcl.models.encoders import build_encoders
from tcl.models.global_batch import gather_rows, gather_rows_with_gradient, world
from tcl.models.product_quantiser import quantisation_error
from tcl.models.unit_rows import unit_or_zero
from tcl.objectives.codebook_teacher import CodebookTargets
from tcl.objectives.hard_negatives import draw_batch_negatives
from tcl.objectives.objective import Losses, weighted
from tcl.objectives.pair_objective import PairSizes
from tcl.objectives.tcl import TCLStudent


class CompressedStudent(TCLStudent):
    """The student: one forward call per step gives all losses. `temperature` is quantise.temperature, not trained."""

    loss_parameters = {}  # noqa: RUF012

    def __init__(self, encoders: CompressedEncoders, objective: CompressedObjective, quantise: QuantiseConfig):
        only_itm = {f"{name}_weight": 0.0 for name in ("cma", "imc", "lmi", "mlm")}
        super().__init__(encoders, ObjectiveConfig(**only_itm, **asdict(objective)))
        self.quantise = quantise
        self.temperature.data.fill_(quantise.temperature)

    def forward(self, batch: Batch, targets: CodebookTargets) -> Losses:
        """Both contrasts of `batch`, and ITM. `targets` sees the vectors, to which codebooks may be refitted."""
        encoders, given = self.encoders, batch.inputs["text"]
        image_encoder = encoders.image_encoder
        image_tokens = image_encoder(batch.inputs["image"].view, image_encoder.student_drop)
        text_tokens = encoders.text_encoder(given.ids, given.mask)
        texts = encoders.heads.text_levels(text_tokens, given.mask)
        images = encoders.heads.image_levels(image_tokens)
        targets.see(images, texts)
        with torch.autocast(images.device.type, enabled=False):
            quantised = torch.stack([encoders.heads.quantiser(side, self.quantise) for side in (images, texts)])
            plain = torch.stack([images, texts])
            error = quantisation_error(plain, quantised).mean().detach() / self.quantise.parts
            ids = torch.arange(len(batch), device=images.device) + world()[0] * len(batch)
            by_level = hybrid_terms(plain, quantised, ids if batch.ids is None else batch.ids, self.quantise)
        each = {name: term.mean() for name, term in by_level.items()}
        weights = {"quantised": 1 - targets.plain_share, "plain": targets.plain_share}
        metrics = {"quantisation_error": error, "plain_share": torch.full_like(error, targets.plain_share)}
        if self.objective.itm_weight > 0:
            each["itm"], metrics["itm_accuracy"] = self._match(batch, plain.detach(), image_tokens, text_tokens)
            metrics["itm_prior"] = torch.full_like(metrics["itm_accuracy"], ACCURACY_PRIOR)
            weights["itm"] = self.objective.itm_weight
        return weighted(each, weights, metrics)

    def _match(self, batch: Batch, plain: Tensor, image_tokens: Tensor, text_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """ITM and its accuracy, with hard negatives by the similarity of all levels."""
        image, text = (unit_or_zero(side.flatten(1)) for side in plain)
        logits = self.objective.itm_hardness * image @ text.T / self.temperature
        negatives = draw_batch_negatives(logits, logits.T, ids=batch.ids)
        mask = batch.inputs["text"].mask
        seen = self.encoders.fusion_encoder.compress(image_tokens)
        pairs, _ = self.fuse(seen, text_tokens, text_tokens[:0], mask, negatives)
        labels = matching_labels(len(batch), negatives.valid_images, negatives.valid_texts)
        return image_text_matching(self.itm_head(pairs), labels)


def hybrid_terms(plain: Tensor, quantised: Tensor, ids: Tensor, config: QuantiseConfig) -> dict[str, Tensor]:
    """Both terms of tcl.losses.hybrid_contrast, [V] each, over the batches of all processes.

    plain, quantised: images and texts [2, B, V, M, d], as they are and as their codes have them. ids: int64 [B]; pairs
    with the same one show the same, and are not told apart.
    """
    B = plain.shape[1]
    (image, text), (image_code, text_code) = (unit_or_zero(part.flatten(3)) for part in (plain, quantised))
    images, texts, image_codes, text_codes = gather_rows_with_gradient(
        torch.stack([image, text, image_code, text_code], dim=1)
    ).unbind(1)
    known = gather_rows(ids)
    columns = torch.arange(len(known), device=ids.device)
    own = columns[:B] + world()[0] * B
    left_out = (ids[:, None] == known) & (columns != own[:, None])

    def contrast(queries: Tensor, candidates: Tensor) -> Tensor:
        coarse, fine = level_similarities(queries, candidates).split([1, plain.shape[2] - 1])
        rest = {"own": own, "temperature": config.temperature, "left_out": left_out}
        return torch.cat([debiased_contrast(coarse, **rest), debiased_contrast(fine, prior=config.prior, **rest)])

    return {
        "quantised": contrast(text, image_codes) + contrast(image, text_codes),
        "plain": contrast(text, images) + contrast(image, texts),
    }


def build_compressed(
    model: ModelConfig, objective: CompressedObjective, quantise: QuantiseConfig, tokenizer: PreTrainedTokenizerBase
) -> CompressedStudent:
    """Random or pre-trained networks, as `model` says, and random heads. InputError: they cannot be built."""
    encoders = build_encoders(model, len(tokenizer), tokenizer.pad_token_id)
    sizes = CodeSizes(**{name: getattr(quantise, name) for name in vars(CodeSizes())})
    trained = quantise.assignment == "soft"
    heads = CompressedHeads(encoders.image_encoder.width, encoders.text_encoder.width, sizes, trained)
    return CompressedStudent(CompressedEncoders(encoders, heads), objective, quantise)


def activation_bytes(student: CompressedStudent, sizes: PairSizes) -> float:
    """What a forward pass over a batch of pairs with the longest texts keeps, per device."""
    B, L, encoders = sizes.batch_size, sizes.max_tokens, student.encoders
    code = encoders.heads.sizes
    image_tokens, levels = tokens_of_image(encoders.image_encoder), 1 + code.levels
    layers = image_layers(encoders.image_encoder, B) + text_layers(encoders.text_encoder, B * L)
    kept = 0.0
    if student.objective.itm_weight > 0:
        fusion, image_encoder = encoders.fusion_encoder, encoders.image_encoder
        layers += fusion_layers(fusion, 3 * B * L) + compression_layers(fusion, image_encoder, B)
        kept = keys_values(fusion, 2 * B * seen_tokens(fusion, image_encoder))
    contrast = 4 * levels * B * B * sizes.processes
    assigned = 2 * B * levels * code.parts * code.codewords
    aggregated = B * (image_tokens + L) * (code.dim + code.levels + code.ghosts)
    logits = contrast + assigned + aggregated
    return kept_bytes(layers, kept, logits, checkpointing=sizes.checkpointing, bf16=sizes.bf16)
