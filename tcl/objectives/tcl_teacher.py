"""TCL's teacher: momentum copies of the encoders and a queue of features for each modality (TCL section 3.1).

All it contributes to a step is known before the student runs.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from tcl.config.tcl_objective import ObjectiveConfig
from tcl.data.batch import Batch
from tcl.losses.cma import expected_candidates, shared_id_positives
from tcl.losses.contrast import Candidates, weighted_sum
from tcl.losses.lmi import pool_regions
from tcl.models.encoders import Encoders
from tcl.models.global_batch import gather_rows, mean_over_processes, pad_to_longest, world
from tcl.models.momentum import follow, momentum_copy
from tcl.models.queue import FeatureQueue, IdQueue

IMAGE, TEXT = "image", "text"


@dataclass
class TCLTargets:
    """What the student learns from in one step. B batch, K queue size, D embed_dim, M masked positions, V vocabulary.

    Dicts are keyed by modality. C rows come from the batch: C = B, or all processes' B with objective.global_negatives.
    What no loss with a weight reads is not there.
    """

    alpha: float
    """Share of the soft targets, 0 to 1."""
    first: int = 0
    """Which of the C rows belongs to sample 0 of this process."""
    candidates: dict[str, Candidates] = field(default_factory=dict)
    """F' and G': the teacher's features of the batch [C, D] and, where any loss looks there, the queue [K, D]."""
    batch_ids: Tensor | None = None
    """Ids of the C rows; None: each shows something of its own."""
    queues_have_ids: bool = False
    """Do the queues remember which image a row shows?"""
    same_image: Tensor | None = None
    """For circle loss: which candidates show a sample's own image, bool [B, C], or [B, C + K] where queues have ids."""
    positives: dict[str, Tensor] = field(default_factory=dict)
    """The right candidate of each sample among those of its own modality, or the mean of several [B, D]."""
    expected: dict[str, Tensor] = field(default_factory=dict)
    """The expected candidate of each sample of the other modality, under the soft targets of CMA [B, D]."""
    local_features: dict[str, Tensor] = field(default_factory=dict)
    """For LMI: regions of the image [C, regions^2, D], tokens of the text without [CLS] [C, L - 1, D]."""
    text_locals_mask: Tensor | None = None
    """[C, L - 1], 1 token, 0 padding."""
    mlm_logits: Tensor | None = None
    """The teacher's at the masked positions [M, V]; None: only the tokens themselves count."""
    mlm_count: Tensor | None = None
    """Mean of M over the processes, scalar, which makes MLM a mean over the global batch; None: over this process."""
    text_tokens: tuple[Tensor, Tensor] | None = None
    """Of a frozen text encoder, which gives the student the same: as `Encoders.encode_texts`."""

    def to_enqueue(self, B: int) -> dict[str, Tensor]:
        """What `TCLTeacher.enqueue` takes, of this process' B samples."""
        own = slice(self.first, self.first + B)
        rows = {name: parts[0][own] for name, parts in self.candidates.items() if len(parts) > 1}
        return rows | {"id": self.batch_ids[own]} if rows and self.queues_have_ids else rows


class TCLTeacher(nn.Module):
    """Momentum copies of `student` (its `Encoders`) and one queue for each modality.

    Pairs of a batch with equal ids are right for each other: the same pair may come twice. with_ids: the queues
    remember the ids, and so are all pairs of an image, as in fine-tuning on retrieval. Stays in train mode while
    training: its dropout is the second view of a text.
    """

    def __init__(
        self, student: Encoders, objective: ObjectiveConfig, lmi_regions: int, seed: int, with_ids: bool = False
    ):
        super().__init__()
        self.encoders = momentum_copy(student)
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

    def enqueue(self, rows: dict[str, Tensor]) -> None:
        """Replace the oldest queue rows by features [B, D] (ids [B]) of all processes, in the order of their ranks."""
        for name, own in rows.items():
            getattr(self, f"{name}_queue").enqueue(own)

    @torch.no_grad()
    def forward(self, batch: Batch, learned: dict[str, Tensor], alpha: float) -> TCLTargets:
        """Targets for `batch`; learned: the student's temperature; alpha: the share of soft targets, 0 to 1."""
        objective, encoders = self.objective, self.encoders
        images, texts = batch.inputs[IMAGE], batch.inputs[TEXT]
        masks = objective.mlm_weight > 0
        distils_mlm = masks and alpha > 0
        gives_texts = bool(encoders.text_encoder.frozen_parts)
        targets = TCLTargets(alpha, queues_have_ids=self.id_queue is not None)
        if objective.embeds or distils_mlm:
            image_tokens = encoders.image_encoder(images.other_view)
        if objective.embeds or distils_mlm or gives_texts:
            wanted = {"plain": objective.embeds, "masked": distils_mlm or (masks and gives_texts)}
            text_tokens, masked_tokens = encoders.encode_texts(texts, **wanted)
            targets.text_tokens = (text_tokens, masked_tokens) if gives_texts else None
        if objective.global_negatives and masks:
            targets.mlm_count = mean_over_processes(len(texts.masked.labels), texts.ids.device)
        if objective.embeds:
            self._compare(targets, batch, image_tokens, text_tokens, learned["temperature"])
        if distils_mlm:
            keys_values = encoders.fusion_encoder.image_keys_values(image_tokens)
            fused = encoders.fusion_encoder(masked_tokens, texts.mask, keys_values)
            targets.mlm_logits = encoders.predict_tokens(fused, texts.masked.positions)
        return targets

    def _compare(
        self, targets: TCLTargets, batch: Batch, image_tokens: Tensor, text_tokens: Tensor, temperature: Tensor
    ) -> None:
        """Fill in what losses compare features with."""
        objective, encoders, mask = self.objective, self.encoders, batch.inputs[TEXT].mask
        compares_parts = objective.lmi_weight > 0
        read = slice(None) if compares_parts else slice(1)
        image, text = encoders.project_image(image_tokens[:, read]), encoders.project_text(text_tokens[:, read])
        batch_wide = {IMAGE: image[:, 0], TEXT: text[:, 0]}
        if compares_parts:
            regions = pool_regions(image[:, 1:], encoders.image_encoder.grid, self.lmi_regions)
            batch_wide |= {"regions": regions, "words": text[:, 1:], "words_mask": mask[:, 1:]}
        own = {name: batch_wide[name] for name in (IMAGE, TEXT)}
        if batch.ids is not None:
            batch_wide["ids"] = batch.ids
        if objective.global_negatives:
            batch_wide = {name: gather_rows(rows) for name, rows in batch_wide.items()}
            targets.first = world()[0] * len(batch)
        targets.batch_ids = batch_wide.get("ids")
        if compares_parts:
            targets.local_features = {IMAGE: batch_wide["regions"], TEXT: batch_wide["words"]}
            targets.text_locals_mask = batch_wide["words_mask"]
        queues = {IMAGE: self.image_queue.features, TEXT: self.text_queue.features} if objective.remembers else {}
        targets.candidates = {name: (batch_wide[name], queues[name]) if queues else (batch_wide[name],) for name in own}
        if not objective.remembers:
            return
        targets.positives = own
        if objective.circle_weight > 0:
            targets.same_image = self._same_image(batch, targets)
        with torch.autocast(mask.device.type, enabled=False):
            if targets.batch_ids is not None:
                known = self._known_ids(targets)
                right = shared_id_positives(batch.ids, torch.cat(known))
                targets.positives = {name: weighted_sum(right, targets.candidates[name][: len(known)]) for name in own}
            if objective.cma_weight > 0:
                targets.expected = {
                    other: expected_candidates(
                        own[name], targets.candidates[other], targets.positives[other], temperature, targets.alpha
                    )
                    for name, other in ((IMAGE, TEXT), (TEXT, IMAGE))
                }

    def _known_ids(self, targets: TCLTargets) -> list[Tensor]:
        """Ids of the batch [C], and of the queues [K] where they remember them."""
        return [targets.batch_ids] if self.id_queue is None else [targets.batch_ids, self.id_queue.ids]

    def _same_image(self, batch: Batch, targets: TCLTargets) -> Tensor:
        if targets.batch_ids is not None:
            return batch.ids[:, None] == torch.cat(self._known_ids(targets))[None, :]
        rows = targets.candidates[IMAGE][0]
        own = targets.first + torch.arange(len(batch), device=rows.device)
        return own[:, None] == torch.arange(len(rows), device=rows.device)[None, :]
