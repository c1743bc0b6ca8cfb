"""Visual question answering: image and question are fused, a decoder writes the answer (ALBEF section 3.5)."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tcl.data.batch import Batch
from tcl.encoders.image_encoder import ImageEncoder
from tcl.encoders.text_encoder import TextEncoder
from tcl.losses.answer import answer_generation
from tcl.models.activation_memory import (
    compression_layers,
    fusion_layers,
    image_layers,
    kept_bytes,
    keys_values,
    seen_tokens,
    text_layers,
)
from tcl.models.answer_decoder import AnswerDecoder, answer_decoder_from
from tcl.models.encoders import Encoders
from tcl.models.fusion_encoder import FusionEncoder, KeysValues
from tcl.models.momentum import follow, momentum_copy
from tcl.objectives.objective import Losses


class VQANetworks(nn.Module):
    """What the student trains and the teacher averages."""

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        fusion_encoder: FusionEncoder,
        decoder: AnswerDecoder,
    ):
        super().__init__()
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.fusion_encoder = fusion_encoder
        self.decoder = decoder

    def read_questions(
        self, image: Tensor, input_ids: Tensor, attention_mask: Tensor, image_index: Tensor | None = None
    ) -> list[KeysValues]:
        """Images [I, 3, H, W] and questions [Q, L] -> what each layer of the decoder sees of the questions.

        image_index [Q] in 0 .. I - 1: the image of each question; None: there are as many, in the same order.
        """
        text = self.text_encoder(input_ids, attention_mask)
        return self.fuse(text, self.image_encoder.features(image), attention_mask, image_index)

    def fuse(
        self, text: Tensor, image_features: Tensor, attention_mask: Tensor, image_index: Tensor | None = None
    ) -> list[KeysValues]:
        """As `read_questions`, of questions as tokens [Q, L, width] and `ImageEncoder.features` of the images."""
        keys_values = self.fusion_encoder.image_keys_values(self.image_encoder.tokens(image_features))
        if image_index is not None:
            keys_values = [image.rows(image_index) for image in keys_values]
        fused = self.fusion_encoder(text, attention_mask, keys_values)
        return self.decoder.question_keys_values(fused, attention_mask)

    def answer_logits(self, batch: Batch, text: Tensor, image_features: Tensor) -> Tensor:
        """Vocabulary logits [M, vocabulary] at the target positions of the answers; arguments as of `fuse`."""
        answers = batch.inputs["answer"]
        questions = self.fuse(text, image_features, batch.inputs["text"].mask)
        states, _ = self.decoder(answers.ids, questions, answers.question_index)
        return self.decoder.logits(states.flatten(0, 1).index_select(0, answers.target_positions))


def build_networks(encoders: Encoders, decoder_layers: int | None) -> VQANetworks:
    """Those of `encoders` that VQA needs, and a decoder of decoder_layers that starts from the fusion encoder's."""
    decoder = answer_decoder_from(encoders, decoder_layers)
    return VQANetworks(encoders.image_encoder, encoders.text_encoder, encoders.fusion_encoder, decoder)


@dataclass
class AnswerTargets:
    """What the student learns from beside the labels."""

    probabilities: Tensor | None
    """The teacher's vocabulary distribution [M, V] at the target positions; None where alpha is 0."""
    alpha: float
    """Share of the soft targets, 0 to 1."""
    text: Tensor | None = None
    """Tokens of the questions by a text encoder that is frozen, and gives the student the same."""
    image_features: Tensor | None = None
    """Of an image encoder that is frozen, and gives the student the same."""

    def to_enqueue(self, B: int) -> dict[str, Tensor]:
        """VQA has no queue."""
        return {}


class VQAStudent(nn.Module):
    """The student: one forward call per step gives the loss."""

    loss_parameters = {}  # noqa: RUF012

    def __init__(self, networks: VQANetworks):
        super().__init__()
        self.networks = networks

    @property
    def averaged(self) -> VQANetworks:
        """The part that the teacher follows."""
        return self.networks

    def forward(self, batch: Batch, targets: AnswerTargets) -> Losses:
        """The loss of `batch`."""
        networks, question, answers = self.networks, batch.inputs["text"], batch.inputs["answer"]
        text = networks.text_encoder(question.ids, question.mask) if targets.text is None else targets.text
        features = targets.image_features
        if features is None:
            features = networks.image_encoder.features(batch.inputs["image"].view, networks.image_encoder.student_drop)
        logits = networks.answer_logits(batch, text, features)
        weights = answers.weights[answers.target_positions // answers.ids.shape[1]]
        with torch.autocast(logits.device.type, enabled=False):  # the loss is fp32
            loss = answer_generation(
                logits, answers.target_ids, weights, targets.probabilities, targets.alpha, len(batch)
            )
        return Losses({"answer": loss}, {}, loss)


class AnswerTeacher(nn.Module):
    """Momentum copies of the student's networks; fp32, without gradients. Stays in train mode while training."""

    def __init__(self, student: VQANetworks, momentum: float):
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
    def forward(self, batch: Batch, learned: dict[str, Tensor], alpha: float) -> AnswerTargets:
        """Soft labels for `batch`, none where alpha (0 to 1) is 0."""
        if alpha == 0:
            return AnswerTargets(None, alpha)
        networks, question = self.networks, batch.inputs["text"]
        text = networks.text_encoder(question.ids, question.mask)
        features = networks.image_encoder.features(batch.inputs["image"].view)
        logits = networks.answer_logits(batch, text, features)
        image_encoder = networks.image_encoder
        sees_the_same = image_encoder.frozen_parts and image_encoder.patch_drop == 0
        return AnswerTargets(
            logits.float().softmax(dim=-1),
            alpha,
            text if networks.text_encoder.frozen_parts else None,
            features if sees_the_same else None,
        )

    def enqueue(self, rows: dict[str, Tensor]) -> None:
        """VQA has no queue."""


def question_activation_bytes(
    networks: VQANetworks,
    *,
    batch_size: int,
    question_tokens: int,
    answer_tokens: int,
    checkpointing: bool,
    bf16: bool,
) -> float:
    """What the student's forward pass keeps, per device: batch_size questions of the longest, two answers to each."""
    questions, answers = batch_size * question_tokens, 2 * batch_size * answer_tokens
    fusion, decoder = networks.fusion_encoder, networks.decoder
    layers = image_layers(networks.image_encoder, batch_size) + text_layers(networks.text_encoder, questions)
    layers += fusion_layers(fusion, questions) + compression_layers(fusion, networks.image_encoder, batch_size)
    vocabulary = answers * networks.text_encoder.word_embeddings.num_embeddings
    of_images = keys_values(fusion, batch_size * seen_tokens(fusion, networks.image_encoder))
    kept = kept_bytes(layers, of_images, vocabulary, checkpointing=checkpointing, bf16=bf16)
    return kept + kept_bytes(fusion_layers(decoder, answers), 0, 0, checkpointing=False, bf16=bf16)
