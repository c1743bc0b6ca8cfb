"""The student: the online networks and the losses of a training step (TCL, Yang et al., CVPR 2022)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from tcl.config.model import ModelConfig
from tcl.config.tcl_objective import ObjectiveConfig, check_objective
from tcl.data.batch import Batch
from tcl.data.texts.text_tokens import Texts
from tcl.errors import InputError
from tcl.losses.circle import circle_loss, mean_of_rows
from tcl.losses.cma import cross_modal_alignment, shared_id_positives
from tcl.losses.contrast import TEMPERATURE, Candidates
from tcl.losses.distil_itm import matching_distillation
from tcl.losses.dual_softmax import dual_softmax_loss
from tcl.losses.imc import intra_modal_contrast
from tcl.losses.itm import ACCURACY_PRIOR, image_text_matching, matching_labels
from tcl.losses.lmi import local_mutual_information
from tcl.losses.mlm import masked_language_modelling
from tcl.models.encoders import Encoders, build_encoders
from tcl.models.global_batch import fetch_rows, gather_rows, gather_rows_with_gradient, world
from tcl.objectives.hard_negatives import Negatives, draw_batch_negatives
from tcl.objectives.kind import CardText, Kind
from tcl.objectives.objective import Losses, weighted
from tcl.objectives.pair_objective import PairObjective
from tcl.objectives.tcl_memory import pair_activation_bytes
from tcl.objectives.tcl_teacher import TCLTargets, TCLTeacher


def loss_weights(objective: ObjectiveConfig) -> dict[str, float]:
    """By loss: the six of the alignment layer count as their mean (TCL, equation 7), others as that of both ways."""
    aligned = {"cma": ("i2t", "t2i"), "imc": ("imc_image", "imc_text"), "lmi": ("lmi_image", "lmi_text")}
    weights = {one: getattr(objective, f"{name}_weight") / 6 for name, both in aligned.items() for one in both}
    for name in ("dsl", "circle"):
        weights |= {f"{name}_{way}": getattr(objective, f"{name}_weight") / 2 for way in ("i2t", "t2i")}
    fused = ("itm", "distil_itm", "mlm")
    return weights | {name: getattr(objective, f"{name}_weight") for name in fused}


class TCLStudent(nn.Module):
    """The trained networks. One forward call per step gives all losses, so that DDP and DeepSpeed hooks fire once."""

    loss_parameters = {"temperature": TEMPERATURE}  # noqa: RUF012

    def __init__(self, encoders: Encoders, objective: ObjectiveConfig):
        super().__init__()
        self.encoders = encoders
        self.objective = objective
        self.itm_head = nn.Linear(encoders.fusion_encoder.width, 2)
        self.temperature = nn.Parameter(torch.tensor([objective.temperature]))  # DeepSpeed broadcasts no scalars
        self._freeze_what_no_loss_reads()

    def _freeze_what_no_loss_reads(self) -> None:
        # DDP waits for the gradient of every trainable parameter.
        contrasts, weights = self.objective.contrasts, self.objective
        for part, is_read in (
            (self.encoders.vision_proj, contrasts),
            (self.encoders.text_proj, contrasts),
            (self.temperature, weights.learns_temperature),
            (self.encoders.fusion_encoder, weights.matches or weights.mlm_weight > 0),
            (self.encoders.mlm_head, weights.mlm_weight > 0),
            (self.itm_head, weights.matches),
        ):
            part.requires_grad_(is_read)

    @property
    def averaged(self) -> Encoders:
        """The part that the teacher follows."""
        return self.encoders

    def forward(self, batch: Batch, targets: TCLTargets, negatives: Negatives | None = None) -> Losses:
        """All losses of `batch`. `negatives` replaces the draw of ITM negatives (to repeat a recorded step)."""
        image_encoder = self.encoders.image_encoder
        image_tokens = image_encoder(batch.inputs["image"].view, image_encoder.student_drop)
        return self.losses(image_tokens, batch, targets, negatives)

    def losses(self, image_tokens: Tensor, batch: Batch, targets: TCLTargets, negatives: Negatives | None) -> Losses:
        """As `forward`, of a batch whose images are tokens already [B, N, image width]."""
        encoders, objective, texts = self.encoders, self.objective, batch.inputs["text"]
        text_tokens, masked_tokens = targets.text_tokens or encoders.encode_texts(
            texts, plain=objective.embeds, masked=objective.mlm_weight > 0
        )
        each: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        if objective.embeds:
            image, text = encoders.project_image(image_tokens[:, 0]), encoders.project_text(text_tokens[:, 0])
            with torch.autocast(image.device.type, enabled=False):  # the losses are fp32
                each |= self._contrasts(image, text, targets)
                if objective.dsl_weight > 0:
                    each |= self._dual_softmax(image, text, batch.ids)
                if objective.matches and negatives is None:
                    images, others = targets.candidates["image"][0], targets.candidates["text"][0]
                    logits = (
                        objective.itm_hardness * image @ others.T / self.temperature,
                        objective.itm_hardness * text @ images.T / self.temperature,
                    )
                    negatives = draw_batch_negatives(*logits, targets.first, targets.batch_ids)
        if objective.matches or objective.mlm_weight > 0:
            fused, metrics = self.fused_losses(image_tokens, text_tokens, masked_tokens, texts, negatives, targets)
            each |= fused
        return weighted(each, loss_weights(objective), metrics)

    def fused_losses(
        self,
        image_tokens: Tensor,
        text_tokens: Tensor,
        masked_tokens: Tensor,
        texts: Texts,
        negatives: Negatives | None,
        targets: TCLTargets,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """ITM, its distillation and MLM, as far as they have a weight, and what to look at beside them.

        Tokens as of `fuse`, but the image's as the image encoder gives them. negatives: None where nothing matches.
        """
        encoders, objective = self.encoders, self.objective
        each: dict[str, Tensor] = {}
        metrics: dict[str, Tensor] = {}
        seen = encoders.fusion_encoder.compress(image_tokens)
        if objective.matches:
            pairs, fused = self.fuse(seen, text_tokens, masked_tokens, texts.mask, negatives)
            labels = matching_labels(len(seen), negatives.valid_images, negatives.valid_texts)
            logits = self.itm_head(pairs)
            itm, metrics["itm_accuracy"] = image_text_matching(logits, labels)
            each |= {"itm": itm} if objective.itm_weight > 0 else {}
            metrics["itm_prior"] = torch.full_like(metrics["itm_accuracy"], ACCURACY_PRIOR)
            if objective.distil_itm_weight > 0:
                with torch.no_grad():  # after the other pass: autocast would keep weights cast without gradient for it
                    everything, _ = self.fuse(image_tokens, text_tokens, masked_tokens[:0], texts.mask, negatives)
                    teacher_logits = self.itm_head(everything)
                each["distil_itm"] = matching_distillation(logits, teacher_logits, labels)
        else:
            fused = encoders.fusion_encoder(masked_tokens, texts.mask, encoders.fusion_encoder.keys_values(seen))
        if objective.mlm_weight > 0:
            logits = encoders.predict_tokens(fused, texts.masked.positions)
            each["mlm"] = masked_language_modelling(
                logits, texts.masked.labels, targets.mlm_logits, targets.alpha, targets.mlm_count
            )
        return each, metrics

    def _contrasts(self, image: Tensor, text: Tensor, targets: TCLTargets) -> dict[str, Tensor]:
        """CMA, IMC and LMI of features [B, D]."""
        objective, tau, first = self.objective, self.temperature, targets.first
        candidates, own, parts = targets.candidates, targets.positives, targets.local_features
        each: dict[str, Tensor] = {}
        if objective.cma_weight > 0:
            each["i2t"] = cross_modal_alignment(image, targets.expected["text"], candidates["text"], tau)
            each["t2i"] = cross_modal_alignment(text, targets.expected["image"], candidates["image"], tau)
        if objective.imc_weight > 0:
            each["imc_image"] = intra_modal_contrast(image, own["image"], candidates["image"], tau)
            each["imc_text"] = intra_modal_contrast(text, own["text"], candidates["text"], tau)
        if objective.lmi_weight > 0:
            mask = targets.text_locals_mask
            each["lmi_image"] = local_mutual_information(image, parts["image"], tau, first=first)
            each["lmi_text"] = local_mutual_information(text, parts["text"], tau, mask, first)
        if objective.circle_weight > 0:
            each["circle_i2t"] = self._circle(image, candidates["text"], targets.same_image)
            each["circle_t2i"] = self._circle(text, candidates["image"], targets.same_image)
        return each

    def _circle(self, features: Tensor, candidates: Candidates, same_image: Tensor) -> Tensor:
        """Circle loss of features [B, D] against the other modality's candidates, of which the rest is wrong."""
        cosines = torch.cat([features @ part.T for part in candidates], dim=1)
        right = F.pad(same_image, (0, cosines.shape[1] - same_image.shape[1]))
        losses = circle_loss(cosines, right, ~right, self.objective.circle_margin, self.objective.circle_scale)
        return mean_of_rows(losses, right, ~right)

    def _dual_softmax(self, image: Tensor, text: Tensor, ids: Tensor | None) -> dict[str, Tensor]:
        """Both ways, of features [B, D]. The prior is over the queries of all processes: with fewer it would be another
        loss."""
        images, texts = gather_rows_with_gradient(image), gather_rows_with_gradient(text)
        known = torch.arange(len(images), device=image.device) if ids is None else gather_rows(ids)
        right, logits = shared_id_positives(known, known), images @ texts.T / self.temperature
        own = slice(world()[0] * len(image), (world()[0] + 1) * len(image))
        return {
            way: dual_softmax_loss(rows, right, self.objective.dsl_temperature)[own].mean()
            for way, rows in (("dsl_i2t", logits), ("dsl_t2i", logits.T))
        }

    def fuse(
        self,
        image_tokens: Tensor,
        text_tokens: Tensor,
        masked_tokens: Tensor,
        attention_mask: Tensor,
        negatives: Negatives,
    ) -> tuple[Tensor, Tensor]:
        """One pass of the fusion encoder over all the pairs that ITM and MLM need, on shared image keys and values.

        image_tokens [B, N, image width] as its layers are to look at them (`FusionEncoder.compress`), text_tokens
        [B, L, width], masked_tokens as many or none, attention_mask [B, L] -> ([CLS] of B positives, B (text, negative
        image), B (negative text, image) [3B, width], masked).
        """
        fusion = self.encoders.fusion_encoder
        keys_values = fusion.keys_values(image_tokens)
        if self.objective.global_negatives:
            negative_images = fusion.keys_values(fetch_rows(image_tokens, negatives.images))
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


def check_distilled(model: ModelConfig, objective: ObjectiveConfig) -> None:
    """InputError: nothing is compressed that a distillation could teach."""
    if objective.distil_itm_weight > 0 and model.fusion.image_tokens is None:
        raise InputError(
            f"objective.distil_itm_weight: {objective.distil_itm_weight} is not possible; accepted: 0, unless "
            f"model.fusion.image_tokens is given"
        )


def build_student(model: ModelConfig, objective: ObjectiveConfig, tokenizer: PreTrainedTokenizerBase) -> TCLStudent:
    """Random or pre-trained networks, as `model` says. InputError: they cannot be built, or nothing is compressed that
    a distillation could teach."""
    check_distilled(model, objective)
    return TCLStudent(build_encoders(model, len(tokenizer), tokenizer.pad_token_id), objective)


KIND = Kind(
    name="tcl",
    build=lambda model, parts, tokenizer: build_student(model, ObjectiveConfig(), tokenizer),
    opened_by="tcl.inference.tcl_model:TCL",
    card=CardText(
        what="Image and text encoders with a shared embedding space, and a fusion encoder that re-ranks pairs.",
        use="from tcl import TCL\n\nmodel = TCL.from_pretrained(folder_or_hub_id)",
    ),
    may_lack=("encoders.mlm_head.",),  # as published retrieval checkpoints are
)

OBJECTIVE = PairObjective(
    kind=KIND,
    Config=ObjectiveConfig,
    check=check_objective,
    build_student=build_student,
    build_teacher=lambda student, model, seed, named_ids: TCLTeacher(
        student.encoders, student.objective, model.lmi_regions, seed, named_ids
    ),
    activation_bytes=lambda student, objective, sizes: pair_activation_bytes(student.encoders, objective, sizes),
    matches=True,
    two_views=True,
    masked_share=lambda objective: objective.mlm_probability if objective.mlm_weight > 0 else 0.0,
    distillation=lambda objective: objective,
    notices=lambda objective: [
        f"negatives: {'of all processes' if objective.global_negatives else 'of each process its own'}"
    ],
)
