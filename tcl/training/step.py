"""One optimiser step, from batches to updated student and queues."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tcl.data.batch import Batch
from tcl.data.seeding import seed_of
from tcl.models.global_batch import gather_rows, world
from tcl.objectives.objective import Losses, Teacher
from tcl.training.engine import Engine
from tcl.training.full_weights import full_weights


@dataclass
class StepResult:
    """Scalars of one step on this process, means over its forward passes; still on the device."""

    losses: Losses
    """Each loss of this run, and their weighted total."""
    metrics: dict[str, Tensor]
    """Those of the losses, what the losses learn (the temperature), and grad_norm."""
    finite: bool
    """False: some process had a non-finite loss or gradient, and the step was skipped on all."""


def train_step(
    engine: Engine,
    teacher: Teacher,
    batches: list[Batch],
    *,
    step: int,
    seed: int,
    learning_rate: float,
    alpha: float,
) -> StepResult:
    """One optimiser step over `batches` (one forward pass each; gradients are averaged over them and over processes).

    The random numbers of a forward pass (dropout, ITM negatives) depend on seed, step and its place among all passes
    of the step, never on what ran before.
    """
    rank, processes = world()
    learned = engine.clamp_loss_parameters()
    teacher.update(full_weights(engine.student.averaged))
    for group in engine.optimizer.param_groups:
        group["lr"] = learning_rate

    passes: list[Losses] = []
    to_enqueue: list[dict[str, Tensor]] = []
    for i, batch in enumerate(batches):
        torch.manual_seed(seed_of(seed, "step", step, i * processes + rank))
        batch = teacher.align(batch)
        with torch.autocast(engine.device.type, torch.bfloat16, enabled=engine.bf16):
            targets = teacher(batch, learned, alpha)
        passes.append(engine.learn(batch, targets, share=1 / len(batches), is_last=i == len(batches) - 1))
        to_enqueue.append(targets.to_enqueue(len(batch)))

    losses = _mean(passes)
    grad_norm, finite = engine.step(torch.isfinite(losses.total))
    if finite:
        for rows in to_enqueue:
            teacher.enqueue({name: gather_rows(own) for name, own in rows.items()})
    return StepResult(losses, losses.metrics | learned | {"grad_norm": grad_norm}, finite)


def _mean(passes: list[Losses]) -> Losses:
    each = {name: torch.stack([one.each[name] for one in passes]).mean() for name in passes[0].each}
    metrics = {name: torch.stack([one.metrics[name] for one in passes]).mean() for name in passes[0].metrics}
    return Losses(each, metrics, torch.stack([one.total for one in passes]).mean())
