"""A modality that the package does not know, beside images: sounds as rows of numbers, which some samples lack.

What is in here would lie in tcl/data/sound/, tcl/encoders/ and tcl/objectives/.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tcl.data.batch import Batch
from tcl.losses.contrast import TEMPERATURE
from tcl.losses.learned import LossParameter
from tcl.losses.pair_softmax import pair_softmax
from tcl.models.momentum import follow
from tcl.models.queue import FeatureQueue
from tcl.objectives.objective import Losses, weighted

EVERYONE = ("image", "sound")


@dataclass
class Sounds:
    """[B, T]: T numbers a sample."""

    wave: Tensor

    def describe(self) -> str:
        return f"of {self.wave.shape[1]} numbers"


class Networks(nn.Module):
    def __init__(self, embed_dim: int):
        super().__init__()
        self.image = nn.Linear(12, embed_dim)
        self.sound = nn.Linear(5, embed_dim)

    def features(self, batch: Batch) -> dict[str, Tensor]:
        given = {"image": batch.inputs["image"].view.flatten(1), "sound": batch.inputs["sound"].wave}
        return {name: F.normalize(getattr(self, name)(given[name]), dim=1) for name in EVERYONE}


@dataclass
class Targets:
    queues: dict[str, Tensor]
    features: dict[str, Tensor]
    present: dict[str, Tensor]

    def to_enqueue(self, B: int) -> dict[str, Tensor]:
        return {name: rows[self.present[name]] for name, rows in self.features.items()}


class Student(nn.Module):
    loss_parameters: dict[str, LossParameter] = {"temperature": TEMPERATURE}  # noqa: RUF012

    def __init__(self, embed_dim: int = 4):
        super().__init__()
        self.networks = Networks(embed_dim)
        self.temperature = nn.Parameter(torch.tensor([0.2]))

    @property
    def averaged(self) -> Networks:
        return self.networks

    def forward(self, batch: Batch, targets: Targets) -> Losses:
        found, there = self.networks.features(batch), targets.present
        each = {}
        for name, other in (EVERYONE, EVERYONE[::-1]):
            candidates = torch.cat([targets.features[other], targets.queues[other]])
            counts = torch.ones(len(candidates), dtype=torch.bool)
            counts[: len(batch)] = there[other]
            right = torch.eye(len(batch), len(candidates), dtype=torch.bool) & there[name][:, None]
            each[f"{name}_to_{other}"] = pair_softmax(found[name], candidates, right, counts, self.temperature)
        return weighted(each, dict.fromkeys(each, 0.5))


class Teacher(nn.Module):
    def __init__(self, student: Networks, queue_size: int, embed_dim: int = 4):
        super().__init__()
        self.networks = copy.deepcopy(student).requires_grad_(False)
        self.queues = nn.ModuleDict({name: FeatureQueue(queue_size, embed_dim, seed=0) for name in EVERYONE})

    def align(self, batch: Batch) -> Batch:
        return batch

    def update(self, student: Iterable[list[Tensor]]) -> None:
        follow(self.networks, student, 0.9)

    @torch.no_grad()
    def forward(self, batch: Batch, learned: dict[str, Tensor], alpha: float) -> Targets:
        everyone = torch.ones(len(batch), dtype=torch.bool)
        present = {name: batch.present.get(name, everyone) for name in EVERYONE}
        queues = {name: queue.features.clone() for name, queue in self.queues.items()}
        return Targets(queues, self.networks.features(batch), present)

    def enqueue(self, rows: dict[str, Tensor]) -> None:
        for name, own in rows.items():
            self.queues[name].enqueue(own)
