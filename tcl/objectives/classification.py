"""Image classification: a head on the global token of the image encoder."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tcl.config.class_head import ClassHeadConfig
from tcl.data.batch import Batch
from tcl.encoders.image_encoder import ImageEncoder
from tcl.losses.am_softmax import am_softmax
from tcl.losses.circle import circle_loss
from tcl.models.no_teacher import NoTargets
from tcl.objectives.objective import Losses


class ImageNetworks(nn.Module):
    """What a classifier takes from weights of any kind."""

    def __init__(self, image_encoder: ImageEncoder):
        super().__init__()
        self.image_encoder = image_encoder


class ClassHead(nn.Module):
    """Features [B, width] -> scores [B, classes], fp32 whatever autocast says: of softmax logits, else cosines to a
    learned weight for each class.

    `scale` times the scores are logits.
    """

    def __init__(self, width: int, classes: int, config: ClassHeadConfig):
        super().__init__()
        self.loss = config.loss
        self.margin, self.scale = config.margin_and_scale
        self.weight = nn.Parameter(torch.empty(classes, width))
        nn.init.trunc_normal_(self.weight, std=0.02)
        self.bias = nn.Parameter(torch.zeros(classes)) if config.loss == "softmax" else None

    def forward(self, features: Tensor) -> Tensor:
        """As the class says."""
        with torch.autocast(features.device.type, enabled=False):
            features, weight = features.float(), self.weight.float()
            if self.bias is not None:
                return F.linear(features, weight, self.bias.float())
            return F.linear(F.normalize(features, dim=1), F.normalize(weight, dim=1))


class ClassificationStudent(nn.Module):
    """The student: one forward call per step gives the loss. `classes` are their names."""

    loss_parameters = {}  # noqa: RUF012

    def __init__(self, image_encoder: ImageEncoder, classes: list[str], head: ClassHeadConfig):
        super().__init__()
        self.networks = ImageNetworks(image_encoder)
        self.classes = classes
        self.head = ClassHead(image_encoder.width, len(classes), head)

    @property
    def averaged(self) -> ImageNetworks:
        """All but the head."""
        return self.networks

    def forward(self, batch: Batch, targets: NoTargets) -> Losses:
        """The loss of `batch`, and the share of it that is classified right."""
        encoder, labels = self.networks.image_encoder, batch.inputs["label"].index
        scores = self.head(encoder(batch.inputs["image"].view, encoder.student_drop)[:, 0])
        with torch.autocast(scores.device.type, enabled=False):
            loss = class_loss(self.head, scores, labels)
        accuracy = (scores.detach().argmax(dim=1) == labels).float().mean()
        return Losses({self.head.loss: loss}, {"accuracy": accuracy}, loss)

    def logits(self, image: Tensor) -> Tensor:
        """Images [B, 3, H, W], normalised -> [B, classes] fp32, whose softmax are probabilities."""
        return self.head.scale * self.head(self.networks.image_encoder(image)[:, 0])


class ImageClassGraph(nn.Module):
    """A student's logits."""

    def __init__(self, student: ClassificationStudent):
        super().__init__()
        self.student = student

    def forward(self, pixel_values: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, classes]."""
        return self.student.logits(pixel_values)


def class_loss(head: ClassHead, scores: Tensor, labels: Tensor) -> Tensor:
    """Scores [B, C] of `head`, right classes [B] -> scalar, by the loss that it learns with."""
    if head.loss == "circle":
        right = F.one_hot(labels, scores.shape[1]).bool()
        return circle_loss(scores, right, ~right, head.margin, head.scale).mean()
    if head.loss == "am_softmax":
        return am_softmax(scores, labels, head.margin, head.scale)
    return F.cross_entropy(scores, labels)
