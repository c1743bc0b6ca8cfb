"""Classes of texts about images, visual entailment and NLVR2: a head on the fused [CLS], with momentum distillation
(ALBEF, sections 3.4 and 5)."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tcl.data.batch import Batch
from tcl.losses.soft_labels import soft_label_cross_entropy
from tcl.models.activation_memory import (
    compression_layers,
    fusion_layers,
    image_layers,
    kept_bytes,
    keys_values,
    seen_tokens,
    text_layers,
)
from tcl.models.fused_classifier import FusedClassifier
from tcl.models.momentum import follow, momentum_copy
from tcl.objectives.objective import Losses


@dataclass
class ClassTargets:
    """What the student learns from beside the labels."""

    probabilities: Tensor | None
    """The teacher's of the classes [B, C]; None where alpha is 0."""
    alpha: float
    """Share of the soft targets, 0 to 1."""

    def to_enqueue(self, B: int) -> dict[str, Tensor]:
        """There is no queue."""
        return {}


class FusedClassStudent(nn.Module):
    """The student: one forward call per step gives the loss."""

    loss_parameters = {}  # noqa: RUF012

    def __init__(self, networks: FusedClassifier):
        super().__init__()
        self.networks = networks

    @property
    def averaged(self) -> FusedClassifier:
        """The part that the teacher follows: all of it."""
        return self.networks

    def forward(self, batch: Batch, targets: ClassTargets) -> Losses:
        """The loss of `batch`, and the share of it that is classified right."""
        logits = batch_logits(self.networks, batch, self.networks.image_encoder.student_drop)
        labels = batch.inputs["label"].index
        with torch.autocast(logits.device.type, enabled=False):  # the loss is fp32
            loss = soft_label_cross_entropy(logits, labels, targets.probabilities, targets.alpha)
        accuracy = (logits.detach().argmax(dim=1) == labels).float().mean()
        return Losses({"cross_entropy": loss}, {"accuracy": accuracy}, loss)


class FusedClassTeacher(nn.Module):
    """Momentum copies of the student's networks, as they are when it is made; fp32, without gradients. Stays in train
    mode while training."""

    def __init__(self, student: FusedClassifier, momentum: float):
        super().__init__()
        self.networks = momentum_copy(student)
        self.momentum = momentum

    def align(self, batch: Batch) -> Batch:
        """Processes share nothing."""
        return batch

    def update(self, student: Iterable[list[Tensor]]) -> None:
        """One step of the moving average; student: weights of its networks, as `follow` takes them."""
        follow(self.networks, student, self.momentum)

    @torch.no_grad()
    def forward(self, batch: Batch, learned: dict[str, Tensor], alpha: float) -> ClassTargets:
        """Soft labels for `batch`, none where alpha (0 to 1) is 0."""
        if alpha == 0:
            return ClassTargets(None, alpha)
        return ClassTargets(batch_logits(self.networks, batch).float().softmax(dim=1), alpha)

    def enqueue(self, rows: dict[str, Tensor]) -> None:
        """There is no queue."""


def batch_logits(networks: FusedClassifier, batch: Batch, patch_drop: float = 0.0) -> Tensor:
    """Of the texts of `batch` about its images of the names `networks.images`: [B, classes]."""
    views, texts = [batch.inputs[name].view for name in networks.images], batch.inputs["text"]
    views = views[0] if len(views) == 1 else torch.cat(views)  # stored tokens are of one image
    return networks.logits(views, texts.ids, texts.mask, patch_drop=patch_drop)


class OneImageGraph(nn.Module):
    """A student's logits, of texts about one image."""

    def __init__(self, student: FusedClassStudent):
        super().__init__()
        self.networks = student.networks

    def forward(self, pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """[B, 3, H, W], [B, L] and [B, L] -> [B, classes]."""
        return self.networks.logits(pixel_values, input_ids, attention_mask)


class TwoImageGraph(nn.Module):
    """A student's logits, of texts about two images."""

    def __init__(self, student: FusedClassStudent):
        super().__init__()
        self.networks = student.networks

    def forward(
        self, left_pixel_values: Tensor, right_pixel_values: Tensor, input_ids: Tensor, attention_mask: Tensor
    ) -> Tensor:
        """[B, 3, H, W] twice, [B, L] and [B, L] -> [B, classes]."""
        return self.networks.logits(torch.cat([left_pixel_values, right_pixel_values]), input_ids, attention_mask)


def activation_bytes(
    networks: FusedClassifier, *, batch_size: int, max_tokens: int, checkpointing: bool, bf16: bool
) -> float:
    """What the student's forward pass keeps, per device, over batch_size texts of the longest."""
    tokens, images = batch_size * max_tokens, batch_size * len(networks.images)
    fusion = networks.fusion_encoder
    layers = image_layers(networks.image_encoder, images) + text_layers(networks.text_encoder, tokens)
    layers += compression_layers(fusion, networks.image_encoder, images)
    layers += fusion_layers(fusion, tokens * len(networks.images))  # a layer for each image of a text
    of_images = keys_values(fusion, images * seen_tokens(fusion, networks.image_encoder))
    logits = batch_size * networks.cls_head[-1].out_features
    return kept_bytes(layers, of_images, logits, checkpointing=checkpointing, bf16=bf16)
