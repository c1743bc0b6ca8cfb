"""Contrast within the batch, by softmax or sigmoid, of two towers: no teacher, no second view, no masking.

CLIP (Radford et al. 2021) and SigLIP (Zhai et al. 2023).
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from tcl.config.clip_objective import CLIPObjectiveConfig, check_clip_objective
from tcl.config.model import ModelConfig
from tcl.data.batch import Batch
from tcl.losses.contrast import TEMPERATURE
from tcl.losses.pair_sigmoid import BIAS, pair_sigmoid
from tcl.losses.pair_softmax import pair_softmax
from tcl.models.activation_memory import image_layers, kept_bytes, text_layers
from tcl.models.encoders import Encoders, build_towers
from tcl.models.global_batch import gather_rows, gather_rows_with_gradient, world
from tcl.models.no_teacher import NoTargets
from tcl.objectives.kind import CardText, Kind
from tcl.objectives.objective import Losses, weighted
from tcl.objectives.pair_objective import PairObjective, PairSizes


class CLIPStudent(nn.Module):
    """Two towers with their projections."""

    def __init__(self, encoders: Encoders, objective: CLIPObjectiveConfig):
        super().__init__()
        self.encoders = encoders
        self.objective = objective
        self.temperature = nn.Parameter(torch.tensor([objective.temperature]))
        self.loss_parameters = {"temperature": TEMPERATURE}
        if objective.loss == "sigmoid":
            self.bias = nn.Parameter(torch.tensor([objective.bias]))
            self.loss_parameters |= {"bias": BIAS}

    @property
    def averaged(self) -> Encoders:
        """All that is trained but what the loss learns."""
        return self.encoders

    def forward(self, batch: Batch, targets: NoTargets) -> Losses:
        """Both directions of `batch`. Samples that lack a modality are nobody's partner and nobody's negative."""
        encoders, texts = self.encoders, batch.inputs["text"]
        image_encoder = encoders.image_encoder
        image_tokens = image_encoder(batch.inputs["image"].view, image_encoder.student_drop)
        image = encoders.project_image(image_tokens[:, 0])
        text = encoders.project_text(encoders.text_encoder(texts.ids, texts.mask)[:, 0])
        right, counts = self._pairs(batch, image.device)
        with torch.autocast(image.device.type, enabled=False):
            each = {
                "i2t": self._contrast(image, text, right, counts),
                "t2i": self._contrast(text, image, right, counts),
            }
        return weighted(each, {"i2t": 0.5, "t2i": 0.5})

    def _pairs(self, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
        """Which of C candidates is right for each sample, bool [B, C], and which lack no modality, bool [C].

        The same for both directions. C = B, or all processes' B with objective.global_negatives.
        """
        B = len(batch)
        whole = torch.ones(B, dtype=torch.bool, device=device)
        for there in batch.present.values():
            whole = whole & there
        rank = world()[0] if self.objective.global_negatives else 0
        ids = rank * B + torch.arange(B, device=device) if batch.ids is None else batch.ids
        candidate_ids, counts = ids, whole
        if self.objective.global_negatives:
            candidate_ids, counts = gather_rows(ids), gather_rows(whole)
        return (ids[:, None] == candidate_ids[None, :]) & whole[:, None], counts

    def _contrast(self, features: Tensor, partners: Tensor, right: Tensor, counts: Tensor) -> Tensor:
        """Features [B, D] find their partners [B, D] of the other modality."""
        if self.objective.global_negatives:
            partners = gather_rows_with_gradient(partners)
        if self.objective.loss == "sigmoid":
            return pair_sigmoid(features, partners, right, counts, self.temperature, self.bias)
        return pair_softmax(features, partners, right, counts, self.temperature)


def build_student(
    model: ModelConfig, objective: CLIPObjectiveConfig, tokenizer: PreTrainedTokenizerBase
) -> CLIPStudent:
    """Random or pre-trained towers, as `model` says. InputError: they cannot be built."""
    return CLIPStudent(build_towers(model, len(tokenizer), tokenizer.pad_token_id), objective)


def activation_bytes(student: CLIPStudent, objective: CLIPObjectiveConfig, sizes: PairSizes) -> float:
    """What a forward pass over a batch of pairs with the longest texts keeps, per device."""
    B = sizes.batch_size
    layers = image_layers(student.encoders.image_encoder, B)
    layers += text_layers(student.encoders.text_encoder, B * sizes.max_tokens)
    logits = 2 * B * (B * sizes.processes if objective.global_negatives else B)
    return kept_bytes(layers, 0, logits, checkpointing=sizes.checkpointing, bf16=sizes.bf16)


KIND = Kind(
    name="clip",
    build=lambda model, parts, tokenizer: build_student(model, CLIPObjectiveConfig(), tokenizer),
    opened_by="tcl.inference.two_towers:TwoTowers",
    card=CardText(
        what="Image and text encoders with a shared embedding space, trained by contrast within the batch.",
        use="from tcl import TwoTowers\n\nmodel = TwoTowers.from_pretrained(folder_or_hub_id)",
    ),
)

OBJECTIVE = PairObjective(
    kind=KIND,
    Config=CLIPObjectiveConfig,
    check=check_clip_objective,
    build_student=build_student,
    activation_bytes=activation_bytes,
)
