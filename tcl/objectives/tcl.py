"""The student: the online networks and the five losses of a training step (TCL, Yang et al., CVPR 2022)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tcl.config.tcl_objective import ObjectiveConfig
from tcl.data.batch import Batch
from tcl.losses.cma import cross_modal_alignment
from tcl.losses.imc import intra_modal_contrast
from tcl.losses.itm import draw_negatives, image_text_matching, matching_labels, negative_weights
from tcl.losses.lmi import local_mutual_information
from tcl.losses.mlm import masked_language_modelling
from tcl.models.encoders import Encoders
from tcl.models.global_batch import fetch_rows
from tcl.models.momentum import Targets

TEMPERATURE_RANGE = (0.001, 0.5)


class Losses(NamedTuple):
    """Scalars of one forward pass; a loss whose weight is 0 is None. A tuple, into which DeepSpeed's hooks can see."""

    i2t: Tensor | None = None
    t2i: Tensor | None = None
    imc_image: Tensor | None = None
    imc_text: Tensor | None = None
    lmi_image: Tensor | None = None
    lmi_text: Tensor | None = None
    itm: Tensor | None = None
    mlm: Tensor | None = None
    itm_accuracy: Tensor | None = None
    """Share of ITM pairs told right. Always answering "no match" gives 2/3."""

    def total(self, objective: ObjectiveConfig) -> Tensor:
        """(cma (i2t + t2i) + imc (image + text) + lmi (image + text)) / 6 + itm + mlm, each times its weight."""
        weighted = [
            (objective.cma_weight / 6, self.i2t),
            (objective.cma_weight / 6, self.t2i),
            (objective.imc_weight / 6, self.imc_image),
            (objective.imc_weight / 6, self.imc_text),
            (objective.lmi_weight / 6, self.lmi_image),
            (objective.lmi_weight / 6, self.lmi_text),
            (objective.itm_weight, self.itm),
            (objective.mlm_weight, self.mlm),
        ]
        return sum(weight * loss for weight, loss in weighted if loss is not None)


@dataclass
class Negatives:
    """The draw of hard negatives in a batch, each [B]; `valid_*` bool is False where a row had none to draw.

    An index is that of a row of the first part of `Targets.image_candidates`: in the batch of this process, or of all.
    """

    images: Tensor
    """For each text, the index of an image that is not its own."""
    texts: Tensor
    """For each image, the index of a text that is not its own."""
    valid_images: Tensor
    valid_texts: Tensor


class TCLStudent(nn.Module):
    """The trained networks. One forward call per step gives all losses, so that DDP and DeepSpeed hooks fire once."""

    def __init__(self, encoders: Encoders, objective: ObjectiveConfig):
        super().__init__()
        self.encoders = encoders
        self.objective = objective
        self.itm_head = nn.Linear(encoders.fusion_encoder.width, 2)
        self.temperature = nn.Parameter(torch.tensor([objective.temperature]))  # DeepSpeed broadcasts no scalars
        self._freeze_what_no_loss_reads()

    def _freeze_what_no_loss_reads(self) -> None:
        # DDP waits for the gradient of every trainable parameter.
        weights = self.objective
        contrast = weights.cma_weight + weights.imc_weight + weights.lmi_weight > 0
        fusion = weights.itm_weight + weights.mlm_weight > 0
        self.encoders.vision_proj.requires_grad_(contrast)
        self.encoders.text_proj.requires_grad_(contrast)
        self.temperature.requires_grad_(contrast)
        self.encoders.fusion_encoder.requires_grad_(fusion)
        self.encoders.mlm_head.requires_grad_(weights.mlm_weight > 0)
        self.itm_head.requires_grad_(weights.itm_weight > 0)

    @property
    def averaged(self) -> Encoders:
        """The part that the teacher follows."""
        return self.encoders

    def forward(self, batch: Batch, targets: Targets, negatives: Negatives | None = None) -> Losses:
        """All losses of `batch`. `negatives` replaces the draw of ITM negatives (to repeat a recorded step)."""
        encoders, weights, first = self.encoders, self.objective, targets.first
        image_tokens = encoders.image_encoder(batch.image)
        text_tokens, masked_tokens = self.encode_texts(batch)
        image_feature = encoders.project_image(image_tokens[:, 0])
        text_feature = encoders.project_text(text_tokens[:, 0])

        losses: dict[str, Tensor] = {}
        fuses = weights.itm_weight + weights.mlm_weight > 0
        with torch.autocast(image_feature.device.type, enabled=False):  # the losses are fp32
            tau, images, texts = self.temperature, targets.image_candidates, targets.text_candidates
            if weights.cma_weight > 0:
                losses["i2t"] = cross_modal_alignment(image_feature, targets.i2t, texts, tau)
                losses["t2i"] = cross_modal_alignment(text_feature, targets.t2i, images, tau)
            if weights.imc_weight > 0:
                losses["imc_image"] = intra_modal_contrast(image_feature, targets.image_positives, images, tau)
                losses["imc_text"] = intra_modal_contrast(text_feature, targets.text_positives, texts, tau)
            if weights.lmi_weight > 0:
                losses["lmi_image"] = local_mutual_information(image_feature, targets.image_locals, tau, first=first)
                losses["lmi_text"] = local_mutual_information(
                    text_feature, targets.text_locals, tau, targets.text_locals_mask, first
                )
            if fuses and negatives is None:
                i2t_logits, t2i_logits = image_feature @ texts[0].T / tau, text_feature @ images[0].T / tau
                negatives = draw_batch_negatives(i2t_logits, t2i_logits, first, targets.batch_ids)
        if not fuses:
            return Losses(**losses)

        pairs, fused_masked = self.fuse(image_tokens, text_tokens, masked_tokens, batch.attention_mask, negatives)
        if weights.itm_weight > 0:
            labels = matching_labels(len(batch), negatives.valid_images, negatives.valid_texts)
            losses["itm"], losses["itm_accuracy"] = image_text_matching(self.itm_head(pairs), labels)
        if weights.mlm_weight > 0:
            logits = encoders.predict_tokens(fused_masked, batch.mask_positions)
            losses["mlm"] = masked_language_modelling(
                logits, batch.mask_labels, targets.mlm_logits, targets.alpha, targets.mlm_count
            )
        return Losses(**losses)

    def encode_texts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Tokens of the texts [B, L, width], and of the same texts masked, none [0, L, width] where MLM is left out."""
        if self.objective.mlm_weight == 0:
            tokens = self.encoders.text_encoder(batch.input_ids, batch.attention_mask)
            return tokens, tokens[:0]
        ids = torch.cat([batch.input_ids, batch.masked_ids])
        return self.encoders.text_encoder(ids, batch.attention_mask.repeat(2, 1)).chunk(2)

    def fuse(
        self,
        image_tokens: Tensor,
        text_tokens: Tensor,
        masked_tokens: Tensor,
        attention_mask: Tensor,
        negatives: Negatives,
    ) -> tuple[Tensor, Tensor]:
        """One pass of the fusion encoder over all the pairs that ITM and MLM need, on shared image keys and values.

        image_tokens [B, N, image width], text_tokens [B, L, width], masked_tokens as many or none, attention_mask
        [B, L] -> ([CLS] of B positives, B (text, negative image), B (negative text, image) [3B, width], masked).
        """
        fusion = self.encoders.fusion_encoder
        keys_values = fusion.image_keys_values(image_tokens)
        if self.objective.global_negatives:
            negative_images = fusion.image_keys_values(fetch_rows(image_tokens, negatives.images))
            negative_texts = fetch_rows(text_tokens, negatives.texts)
            negative_masks = fetch_rows(attention_mask, negatives.texts)
        else:
            negative_images = [image.rows(negatives.images) for image in keys_values]
            negative_texts, negative_masks = text_tokens[negatives.texts], attention_mask[negatives.texts]
        # The two or three texts of an image stand together and share its keys and values without a copy.
        texts, masks = [text_tokens, negative_texts], [attention_mask, negative_masks]
        if len(masked_tokens):
            texts.append(masked_tokens)
            masks.append(attention_mask)
        fused = fusion(
            torch.cat([torch.stack(texts, dim=1).flatten(0, 1), text_tokens]),
            torch.cat([torch.stack(masks, dim=1).flatten(0, 1), attention_mask]),
            keys_values,
            negative_images,
        )
        B = len(image_tokens)
        of_own, of_negative_images = fused[:-B].unflatten(0, (B, len(texts))), fused[-B:]
        pairs = torch.cat([of_own[:, 0, 0], of_negative_images[:, 0], of_own[:, 1, 0]])
        return pairs, of_own[:, 2] if len(masked_tokens) else masked_tokens


@torch.no_grad()
def draw_batch_negatives(
    i2t_logits: Tensor, t2i_logits: Tensor, first: int = 0, ids: Tensor | None = None
) -> Negatives:
    """Hard negatives for B samples among the C of the batch, logits [B, C]; sample b itself is column first + b.

    ids [C]: samples with equal ones are never each other's negatives.
    """
    B, C = i2t_logits.shape
    ids = torch.arange(C, device=i2t_logits.device) if ids is None else ids
    allowed = ids[first : first + B, None] != ids[None, :]
    texts, valid_texts = draw_negatives(negative_weights(i2t_logits, allowed))
    images, valid_images = draw_negatives(negative_weights(t2i_logits, allowed))
    return Negatives(images, texts, valid_images, valid_texts)
