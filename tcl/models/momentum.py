"""The teacher: momentum copies of the encoders and the feature queues (TCL section 3.1).

It stands outside the module that DDP or DeepSpeed wraps: no gradients, no optimiser state, fp32 weights (in bf16 the
moving average would stop moving). All it contributes to a step is known before the student runs.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tcl.config.tcl_objective import ObjectiveConfig
from tcl.data.batch import Batch
from tcl.losses.cma import expected_candidates, shared_id_positives
from tcl.losses.contrast import Candidates, weighted_sum
from tcl.losses.lmi import pool_regions
from tcl.models.encoders import Encoders
from tcl.models.global_batch import gather_rows, mean_over_processes, pad_to_longest, world
from tcl.models.queue import FeatureQueue, IdQueue


@dataclass
class Targets:
    """What the student learns from in one step. B batch, K queue size, D embed_dim, M masked positions, V vocabulary.

    C rows come from the batch: C = B, or all processes' B with objective.global_negatives. Without CMA, i2t and t2i are
    None.
    """

    image_candidates: Candidates
    """F': the teacher's image features of the batch [C, D], and the queue [K, D]."""
    text_candidates: Candidates
    """G'."""
    first: int
    """Which of the C rows belongs to sample 0 of this process."""
    batch_ids: Tensor | None
    """Image ids of the C rows; None: each shows an image of its own."""
    queues_have_ids: bool
    """Do the queues remember which image a row shows?"""
    image_positives: Tensor
    """The right image candidate of each sample, or the mean of several [B, D]."""
    text_positives: Tensor
    """[B, D]."""
    i2t: Tensor | None
    """The expected text candidate of each image under the soft targets of CMA [B, D]."""
    t2i: Tensor | None
    """The expected image candidate of each text [B, D]."""
    image_locals: Tensor
    """Regions of the image [C, regions^2, D] for LMI."""
    text_locals: Tensor
    """Tokens of the text without [CLS] [C, L - 1, D] for LMI."""
    text_locals_mask: Tensor
    """[C, L - 1], 1 token, 0 padding."""
    alpha: float
    """Share of the soft targets, 0 to 1."""
    mlm_logits: Tensor | None
    """The teacher's at the masked positions [M, V]; None: only the tokens themselves count."""
    mlm_count: Tensor | None
    """Mean of M over the processes, scalar, which makes MLM a mean over the global batch; None: over this process."""

    def to_enqueue(self, B: int) -> tuple[Tensor, ...]:
        """What `Momentum.enqueue` takes, of this process' B samples."""
        own = slice(self.first, self.first + B)
        features = self.image_candidates[0][own], self.text_candidates[0][own]
        return (*features, self.batch_ids[own]) if self.queues_have_ids else features


@torch.no_grad()
def follow(teacher: nn.Module, student: Iterable[list[Tensor]], momentum: float) -> None:
    """theta' <- m theta' + (1 - m) theta for every parameter, in fp32. Once per optimiser step.

    student: fp32 weights in the order of teacher.parameters(), some at a time (`full_weights`). momentum m, 0 to 1.
    """
    own = iter(teacher.parameters())
    for weights in student:
        torch._foreach_lerp_([next(own) for _ in weights], weights, 1 - momentum)


class Momentum(nn.Module):
    """Momentum copies of `student` (its `Encoders`) and one queue for each modality.

    Pairs of a batch with equal image ids are right for each other: the same pair may come twice. with_ids: the queues
    remember the ids, and so are all pairs of an image, as in fine-tuning on retrieval. Stays in train mode while
    training: its dropout is the second view of a text.
    """

    def __init__(
        self, student: Encoders, objective: ObjectiveConfig, lmi_regions: int, seed: int, with_ids: bool = False
    ):
        super().__init__()
        self.encoders = copy.deepcopy(student).requires_grad_(False)
        self.objective = objective
        self.lmi_regions = lmi_regions
        embed_dim = student.vision_proj.out_features
        self.image_queue = FeatureQueue(objective.queue_size, embed_dim, seed)
        self.text_queue = FeatureQueue(objective.queue_size, embed_dim, seed + 1)
        self.id_queue = IdQueue(objective.queue_size) if with_ids else None

    def update(self, student: Iterable[list[Tensor]]) -> None:
        """One step of the moving average; student: weights of its encoders, as `follow` takes them."""
        follow(self.encoders, student, self.objective.momentum)

    def align(self, batch: Batch) -> Batch:
        """With objective.global_negatives, padded to the longest text of any process."""
        return pad_to_longest(batch) if self.objective.global_negatives else batch

    @torch.no_grad()
    def forward(self, batch: Batch, temperature: Tensor, alpha: float) -> Targets:
        """Targets for `batch`; `temperature` is the student's (scalar), `alpha` the share of soft targets, 0 to 1."""
        encoders = self.encoders
        distil_mlm = alpha > 0 and self.objective.mlm_weight > 0
        image_tokens = encoders.image_encoder(batch.image_aug)
        if distil_mlm:
            text_tokens, masked_tokens = encoders.text_encoder(
                torch.cat([batch.input_ids, batch.masked_ids]), batch.attention_mask.repeat(2, 1)
            ).chunk(2)
        else:
            text_tokens = encoders.text_encoder(batch.input_ids, batch.attention_mask)

        image = encoders.project_image(image_tokens)
        text = encoders.project_text(text_tokens)
        image_locals = pool_regions(image[:, 1:], encoders.image_encoder.grid, self.lmi_regions)
        batch_wide = [image[:, 0], text[:, 0], image_locals, text[:, 1:], batch.attention_mask[:, 1:]]
        batch_wide += [] if batch.image_ids is None else [batch.image_ids]
        first, mlm_count = 0, None
        if self.objective.global_negatives:
            batch_wide = [gather_rows(rows) for rows in batch_wide]
            first, mlm_count = world()[0] * len(batch), mean_over_processes(len(batch.mask_labels), image.device)
        image_features, text_features, image_locals, text_locals, text_locals_mask, *ids = batch_wide
        batch_ids = ids[0] if ids else None
        image_candidates = image_features, self.image_queue.features
        text_candidates = text_features, self.text_queue.features

        image_positives, text_positives = image[:, 0], text[:, 0]
        i2t = t2i = mlm_logits = None
        with torch.autocast(image.device.type, enabled=False):
            if batch_ids is not None:
                known = [batch_ids] if self.id_queue is None else [batch_ids, self.id_queue.ids]
                positives = shared_id_positives(batch.image_ids, torch.cat(known))
                image_positives = weighted_sum(positives, image_candidates[: len(known)])
                text_positives = weighted_sum(positives, text_candidates[: len(known)])
            if self.objective.cma_weight > 0:
                i2t = expected_candidates(image[:, 0], text_candidates, text_positives, temperature, alpha)
                t2i = expected_candidates(text[:, 0], image_candidates, image_positives, temperature, alpha)
        if distil_mlm:
            keys_values = encoders.fusion_encoder.image_keys_values(image_tokens)
            fused = encoders.fusion_encoder(masked_tokens, batch.attention_mask, keys_values)
            mlm_logits = encoders.predict_tokens(fused, batch.mask_positions)
        return Targets(
            image_candidates=image_candidates,
            text_candidates=text_candidates,
            first=first,
            batch_ids=batch_ids,
            queues_have_ids=self.id_queue is not None,
            image_positives=image_positives,
            text_positives=text_positives,
            i2t=i2t,
            t2i=t2i,
            image_locals=image_locals,
            text_locals=text_locals,
            text_locals_mask=text_locals_mask,
            alpha=alpha,
            mlm_logits=mlm_logits,
            mlm_count=mlm_count,
        )

    def enqueue(self, image_features: Tensor, text_features: Tensor, image_ids: Tensor | None = None) -> None:
        """Replace the oldest queue rows by momentum features [B, D] of all processes, in the order of their ranks.

        image_ids [B] where the queues remember ids.
        """
        self.image_queue.enqueue(image_features)
        self.text_queue.enqueue(text_features)
        if self.id_queue is not None:
            self.id_queue.enqueue(image_ids)
