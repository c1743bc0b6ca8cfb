"""A compression of image tokens learned for a finished TCL, of which nothing else changes (EDJE, arXiv 2510.06820).

The fusion encoder reads the few tokens as it reads all: what it cannot tell apart is what the compression learns, from
ITM and MLM, and from its own ITM logits of all tokens.
"""

import torch
from torch import nn

from tcl.config.compression_objective import CompressionObjectiveConfig, check_compression_objective
from tcl.data.batch import Batch
from tcl.models.encoders import Encoders, build_encoders
from tcl.models.no_teacher import NoTargets
from tcl.objectives.hard_negatives import Negatives, draw_batch_negatives
from tcl.objectives.objective import Losses, weighted
from tcl.objectives.pair_objective import PairObjective
from tcl.objectives.tcl import KIND as KIND_OF_TCL
from tcl.objectives.tcl import TCLStudent, loss_weights
from tcl.objectives.tcl_memory import compression_activation_bytes
from tcl.objectives.tcl_teacher import TCLTargets


class CompressionStudent(TCLStudent):
    """A TCL whose compression alone is trained. All other networks are in eval mode, whatever `train` is called with,
    so that their running statistics stay, too."""

    loss_parameters = {}  # noqa: RUF012  the temperature is frozen with the rest

    def __init__(self, encoders: Encoders, objective: CompressionObjectiveConfig):
        super().__init__(encoders, objective.of_tcl)
        self.requires_grad_(False)
        self.compression.requires_grad_(True)
        self.train()

    @property
    def compression(self) -> nn.Module:
        """What is trained."""
        return self.encoders.fusion_encoder.compression

    def train(self, mode: bool = True) -> "CompressionStudent":
        """As of any module, for the compression."""
        super().train(False)
        self.training = mode
        self.compression.train(mode)
        return self

    def forward(self, batch: Batch, targets: NoTargets, negatives: Negatives | None = None) -> Losses:
        """ITM, its distillation and MLM of `batch`; arguments as of `TCLStudent`. Negatives are of its own batch."""
        encoders, objective, texts = self.encoders, self.objective, batch.inputs["text"]
        with torch.no_grad():
            image_tokens = encoders.image_encoder(batch.inputs["image"].view)
            wanted = {"plain": objective.matches, "masked": objective.mlm_weight > 0}
            text_tokens, masked_tokens = encoders.encode_texts(texts, **wanted)
            if objective.matches and negatives is None:
                image, text = encoders.project_image(image_tokens[:, 0]), encoders.project_text(text_tokens[:, 0])
                logits = objective.itm_hardness * image @ text.T / self.temperature
                negatives = draw_batch_negatives(logits, logits.T, ids=batch.ids)
        alone = TCLTargets(alpha=0.0)  # words are learned from themselves, not from a teacher
        each, metrics = self.fused_losses(image_tokens, text_tokens, masked_tokens, texts, negatives, alone)
        return weighted(each, loss_weights(objective), metrics)


COMPRESSION = PairObjective(
    kind=KIND_OF_TCL,
    Config=CompressionObjectiveConfig,
    check=check_compression_objective,
    build_student=lambda model, objective, tokenizer: CompressionStudent(
        build_encoders(model, len(tokenizer), tokenizer.pad_token_id), objective
    ),
    activation_bytes=lambda student, objective, sizes: compression_activation_bytes(
        student.encoders, objective.of_tcl, sizes
    ),
    matches=True,
    masked_share=lambda objective: objective.mlm_probability if objective.mlm_weight > 0 else 0.0,
)
"""Of tcl.tasks.compress, and no objective to train a model by: it is not called OBJECTIVE."""
