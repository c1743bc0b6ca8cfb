"""What a run knows of its epochs while it learns codes: how much the plain contrast counts, and the vectors to which
codebooks that get no gradient are refitted when an epoch ends.

Vectors are kept as they were when they were learned from, as in the published code: those of the newest pairs of the
epoch, of all processes, the same on each. They lie in the teacher's state, so that a run which was stopped in the
middle of an epoch goes on with those from before, and refits as it would have.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed, nn

from tcl.data.batch import Batch
from tcl.losses.hybrid_contrast import plain_share
from tcl.models.compressed_heads import CompressedHeads
from tcl.models.global_batch import world
from tcl.models.spherical_kmeans import fit_codebooks


@dataclass
class CodebookTargets:
    """Of one forward pass."""

    plain_share: float
    """Weight of the plain contrast, 0 to 1; the quantised one has the rest."""
    keeps: bool = False
    """Are codebooks refitted to vectors?"""
    seen: dict[str, Tensor] = field(default_factory=dict)

    def see(self, images: Tensor, texts: Tensor) -> None:
        """The student's vectors [B, V, M, d]."""
        if self.keeps:
            self.seen = {"image": images.detach(), "text": texts.detach()}

    def to_enqueue(self, B: int) -> dict[str, Tensor]:
        """What was seen, where it is to be kept."""
        return self.seen


class CodebookTeacher(nn.Module):
    """A Teacher without weights, that counts the samples which a run was given.

    Epochs are of `samples` pairs (>= 1); an optimiser step takes `step_pairs` of them, over all processes. refit_pairs:
    None where gradients train the codebooks of `heads`. A refit needs all pairs of the step that ends its epoch: where
    that step is skipped, since a loss is not finite, the codebooks stay until the next one.
    """

    def __init__(
        self,
        heads: CompressedHeads,
        *,
        samples: int,
        step_pairs: int,
        epochs: int,
        refit_pairs: int | None,
        refit_rounds: int = 10,
    ):
        super().__init__()
        self._heads = (heads,)  # no part of this module's state
        self.samples, self.step_pairs, self.epochs = samples, step_pairs, epochs
        self.refit_rounds = refit_rounds
        self.keeps = refit_pairs is not None
        self._arrived = 0
        self.register_buffer("given", torch.zeros((), dtype=torch.long))
        if self.keeps:
            words = heads.quantiser.codebooks
            for name in ("image", "text"):
                self.register_buffer(name, torch.zeros(refit_pairs, *words.shape[:2], words.shape[3]))
            self.register_buffer("kept", torch.zeros((), dtype=torch.long))

    def align(self, batch: Batch) -> Batch:
        """Processes share vectors, which have one shape."""
        return batch

    def update(self, student: Iterable[list[Tensor]]) -> None:
        """A step begins; nothing follows `student`."""
        self.given += self.step_pairs
        self._arrived = 0

    def forward(self, batch: Batch, learned: dict[str, Tensor], alpha: float) -> CodebookTargets:
        """Of the epoch in which the step began, from 1."""
        epoch = (int(self.given) - self.step_pairs) // self.samples + 1
        return CodebookTargets(plain_share(epoch, self.epochs), self.keeps)

    @torch.no_grad()
    def enqueue(self, rows: dict[str, Tensor]) -> None:
        """Keep vectors [B, V, M, d] of all processes; refit with the last of an epoch. InputError: too few."""
        if not self.keeps:
            return
        count, size = len(rows["image"]), len(self.image)
        skipped = max(count - size, 0)
        places = (self.kept + torch.arange(skipped, count, device=self.kept.device)) % size
        for name, ring in (("image", self.image), ("text", self.text)):
            ring[places] = rows[name][skipped:].to(ring.dtype)
        self.kept += count
        self._arrived += count
        given = int(self.given)
        if self._arrived == self.step_pairs and given // self.samples > (given - self.step_pairs) // self.samples:
            self._refit()

    def _refit(self) -> None:
        (heads,) = self._heads
        newest = min(int(self.kept), len(self.image))
        vectors = torch.cat([self.image[:newest], self.text[:newest]]).flatten(1, 2)
        codebooks = fit_codebooks(vectors, heads.quantiser.codebooks.flatten(0, 1), self.refit_rounds)
        if world()[1] > 1:  # hardware that rounds differently may not make different codes
            distributed.broadcast(codebooks, 0)
        heads.quantiser.codebooks.copy_(codebooks.view_as(heads.quantiser.codebooks))
        self.kept.zero_()
