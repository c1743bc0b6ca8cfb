"""Text assignment: a text is shown two images and tells which is its own, the first, the second or neither (ALBEF,
section 5). One epoch of it readies a pre-trained model for pairs of images, as NLVR2 has them.

There is no teacher. Both images are of the batch of this process; others are drawn by their similarity to the text's
own (`tcl.objectives.assignments`). The projections only tell similarities, and are carried along untrained.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from tcl.config.model import ModelConfig
from tcl.config.text_assignment_objective import TextAssignmentConfig, check_text_assignment
from tcl.data.batch import Batch
from tcl.losses.itm import LEFT_OUT
from tcl.models.activation_memory import (
    compression_layers,
    fusion_layers,
    image_layers,
    kept_bytes,
    keys_values,
    seen_tokens,
    text_layers,
)
from tcl.models.encoders import Encoders, build_encoders
from tcl.models.no_teacher import NoTargets
from tcl.models.paired_fusion import PairedFusion, doubled
from tcl.objectives.assignments import Assignments, assignment_weights, draw_assignments
from tcl.objectives.kind import CardText, Kind
from tcl.objectives.objective import Losses
from tcl.objectives.pair_objective import PairObjective, PairSizes

CLASSES = 3


class TextAssignmentStudent(nn.Module):
    """The trained networks: encoders whose fusion encoder is a PairedFusion, and a head."""

    loss_parameters = {}  # noqa: RUF012

    def __init__(self, encoders: Encoders):
        super().__init__()
        self.encoders = encoders
        self.ta_head = nn.Linear(encoders.fusion_encoder.width, CLASSES)
        # That of the pre-training before, which nothing here reads.
        self.temperature = nn.Parameter(torch.tensor([0.07]), requires_grad=False)
        for part in (encoders.vision_proj, encoders.text_proj):  # DDP waits for gradients of what is trained
            part.requires_grad_(False)

    @property
    def averaged(self) -> Encoders:
        """All but the head."""
        return self.encoders

    def forward(self, batch: Batch, targets: NoTargets, assignments: Assignments | None = None) -> Losses:
        """The loss of `batch`. `assignments` replaces the draw (to repeat a recorded step)."""
        encoders, texts = self.encoders, batch.inputs["text"]
        image_encoder = encoders.image_encoder
        tokens = image_encoder(batch.inputs["image"].view, image_encoder.student_drop)
        if assignments is None:
            with torch.no_grad():
                features = encoders.project_image(tokens[:, 0])
            with torch.autocast(tokens.device.type, enabled=False):
                assignments = draw_assignments(assignment_weights(features, batch.ids))
        text = encoders.text_encoder(texts.ids, texts.mask)
        logits = self.logits(tokens, text, texts.mask, assignments.first, assignments.second)
        counts = assignments.labels != LEFT_OUT
        # A sum over those that count, at least 1: a batch of one image alone costs 0.
        loss = F.cross_entropy(logits.float(), assignments.labels, ignore_index=LEFT_OUT, reduction="sum")
        loss = loss / counts.sum().clamp(min=1)
        right = (logits.detach().argmax(dim=1) == assignments.labels) & counts
        return Losses({"assignment": loss}, {"accuracy": right.sum() / counts.sum().clamp(min=1)}, loss)

    def logits(self, image_tokens: Tensor, text_tokens: Tensor, mask: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Images [I, N, image width] and texts [B, L, width] with their mask [B, L] -> [B, 3].

        first, second [B] in 0 .. I - 1: the two images that each text is shown.
        """
        fusion = self.encoders.fusion_encoder
        images = fusion.image_keys_values(image_tokens)
        shown = ([image.rows(index) for image in images] for index in (first, second))
        return self.ta_head(fusion(text_tokens, mask, *shown)[:, 0])


def build_student(
    model: ModelConfig, objective: TextAssignmentConfig, tokenizer: PreTrainedTokenizerBase
) -> TextAssignmentStudent:
    """Random or pre-trained networks, as `model` says. InputError: they cannot be built."""
    encoders = build_encoders(model, len(tokenizer), tokenizer.pad_token_id)
    encoders.fusion_encoder = PairedFusion(encoders.fusion_encoder)
    encoders.mlm_head = None
    return TextAssignmentStudent(encoders)


def weights_from(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of a pre-trained or retrieval student as this one takes them: layers doubled, other heads left out."""
    others = ("itm_head.", "encoders.mlm_head.")
    return {name: tensor for name, tensor in doubled(weights).items() if not name.startswith(others)}


def activation_bytes(student: TextAssignmentStudent, objective: TextAssignmentConfig, sizes: PairSizes) -> float:
    """What a forward pass over a batch of pairs with the longest texts keeps, per device."""
    B, encoders = sizes.batch_size, student.encoders
    fusion, tokens = encoders.fusion_encoder, B * sizes.max_tokens
    layers = image_layers(encoders.image_encoder, B) + text_layers(encoders.text_encoder, tokens)
    layers += compression_layers(fusion, encoders.image_encoder, B) + fusion_layers(fusion, 2 * tokens)
    # Keys and values of the images of the batch, and of those that texts are shown.
    of_images = keys_values(fusion, 3 * B * seen_tokens(fusion, encoders.image_encoder))
    return kept_bytes(layers, of_images, CLASSES * B, checkpointing=sizes.checkpointing, bf16=sizes.bf16)


KIND = Kind(
    name="text_assignment",
    build=lambda model, parts, tokenizer: build_student(model, TextAssignmentConfig(), tokenizer),
    card=CardText(
        what="Image and text encoders, and a fusion encoder of doubled layers that reads a text with two images, to be "
        "fine-tuned on NLVR2.",
        use="from tcl import load_model\n\nmodel = load_model(folder_or_hub_id)",
    ),
)

OBJECTIVE = PairObjective(
    kind=KIND,
    Config=TextAssignmentConfig,
    check=check_text_assignment,
    build_student=build_student,
    activation_bytes=activation_bytes,
    weights_from=weights_from,
    starts_random=("ta_head.",),
)
