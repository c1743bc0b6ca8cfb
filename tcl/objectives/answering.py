"""Visual question answering: image and question are fused, a decoder writes the answer (ALBEF section 3.5)."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tcl.data.batch import Batch
from tcl.encoders.image_encoder import ImageEncoder
from tcl.encoders.text_encoder import TextEncoder
from tcl.losses.answer import answer_generation
from tcl.models.answer_decoder import AnswerDecoder
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
        self,
        image: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        image_index: Tensor | None = None,
        patch_drop: float = 0.0,
    ) -> list[KeysValues]:
        """Images [I, 3, H, W] and questions [Q, L] -> what each layer of the decoder sees of the questions.

        image_index [Q] in 0 .. I - 1: the image of each question; None: there are as many, in the same order.
        """
        text = self.text_encoder(input_ids, attention_mask)
        keys_values = self.fusion_encoder.image_keys_values(self.image_encoder(image, patch_drop))
        if image_index is not None:
            keys_values = [image.rows(image_index) for image in keys_values]
        fused = self.fusion_encoder(text, attention_mask, keys_values)
        return self.decoder.question_keys_values(fused, attention_mask)

    def answer_logits(self, batch: Batch, patch_drop: float = 0.0) -> Tensor:
        """Vocabulary logits [M, vocabulary] at the target positions of the answers."""
        image, text, answers = (batch.inputs[name] for name in ("image", "text", "answer"))
        questions = self.read_questions(image.view, text.ids, text.mask, patch_drop=patch_drop)
        states, _ = self.decoder(answers.ids, questions, answers.question_index)
        return self.decoder.logits(states.flatten(0, 1).index_select(0, answers.target_positions))


@dataclass
class AnswerTargets:
    """What the student learns from beside the labels."""

    probabilities: Tensor | None
    """The teacher's vocabulary distribution [M, V] at the target positions; None where alpha is 0."""
    alpha: float
    """Share of the soft targets, 0 to 1."""

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
        logits = self.networks.answer_logits(batch, self.networks.image_encoder.student_drop)
        answers = batch.inputs["answer"]
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
        return AnswerTargets(self.networks.answer_logits(batch).float().softmax(dim=-1), alpha)

    def enqueue(self, rows: dict[str, Tensor]) -> None:
        """VQA has no queue."""
