"""One optimiser step, from batches to updated student and queues."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tcl.data.batch import AnyBatch
from tcl.data.seeding import seed_of
from tcl.models.global_batch import gather_rows, world
from tcl.tasks.task import Teacher
from tcl.training.engine import Engine
from tcl.training.full_weights import full_weights


@dataclass
class StepResult:
    """Scalars of one step on this process, means over its forward passes; still on the device."""

    scalars: dict[str, Tensor]
    """Every loss of this run, loss (the weighted total), grad_norm; itm_accuracy and temperature where there are."""
    finite: bool
    """False: some process had a non-finite loss or gradient, and the step was skipped on all."""


def train_step(
    engine: Engine,
    teacher: Teacher,
    batches: list[AnyBatch],
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
    temperature = engine.clamp_temperature()
    teacher.update(full_weights(engine.student.averaged))
    for group in engine.optimizer.param_groups:
        group["lr"] = learning_rate

    passes: list[dict[str, Tensor]] = []
    to_enqueue: list[tuple[Tensor, ...]] = []
    for i, batch in enumerate(batches):
        torch.manual_seed(seed_of(seed, "step", step, i * processes + rank))
        batch = teacher.align(batch)
        with torch.autocast(batch.image.device.type, torch.bfloat16, enabled=engine.bf16):
            targets = teacher(batch, temperature, alpha)
        losses, total = engine.learn(batch, targets, share=1 / len(batches), is_last=i == len(batches) - 1)
        passes.append({name: value.detach() for name, value in losses._asdict().items() if value is not None})
        passes[-1]["loss"] = total
        to_enqueue.append(targets.to_enqueue(len(batch)))

    scalars = {name: torch.stack([one[name] for one in passes]).mean() for name in passes[0]}
    grad_norm, finite = engine.step(torch.isfinite(scalars["loss"]))
    if finite:
        for rows in to_enqueue:
            teacher.enqueue(*map(gather_rows, rows))
    scalars["grad_norm"] = grad_norm
    if temperature is not None:
        scalars["temperature"] = temperature
    return StepResult(scalars, finite)
