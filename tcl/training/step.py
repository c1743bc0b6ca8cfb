"""One optimiser step, from batches to updated student and queues."""

from contextlib import nullcontext
from dataclasses import dataclass, fields

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tcl.data.batch import Batch
from tcl.data.seeding import seed_of
from tcl.models.momentum import Momentum
from tcl.models.tcl import TCL


@dataclass
class StepResult:
    """Scalars of one step on this process, means over its forward passes; still on the device."""

    scalars: dict[str, Tensor]
    """Every loss of this run, itm_accuracy, loss (the weighted total), grad_norm, temperature."""
    finite: bool
    """False: some process had a non-finite loss or gradient, and the step was skipped on all."""


def train_step(
    accelerator: Accelerator,
    student: TCL,
    engine: nn.Module,
    teacher: Momentum,
    optimizer: torch.optim.Optimizer,
    batches: list[Batch],
    *,
    step: int,
    seed: int,
    learning_rate: float,
    alpha: float,
    clip_grad_norm: float,
) -> StepResult:
    """One optimiser step over `batches` (one forward pass each; gradients are averaged over them and over processes).

    `engine` is `student` as accelerate prepared it. The random numbers of a forward pass (dropout, ITM negatives)
    depend on seed, step and its place among all passes of the step, never on what ran before.
    """
    student.clamp_temperature()
    teacher.update(student.encoders)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate

    passes: list[dict[str, Tensor]] = []
    momentum_features: list[tuple[Tensor, Tensor]] = []
    for i, batch in enumerate(batches):
        torch.manual_seed(seed_of(seed, "step", step, i * accelerator.num_processes + accelerator.process_index))
        with accelerator.autocast():
            targets = teacher(batch, student.temperature.detach(), alpha)
        is_last = i == len(batches) - 1
        with nullcontext() if is_last else accelerator.no_sync(engine):
            losses = engine(batch, targets)
            total = losses.total(student.objective)
            accelerator.backward(total / len(batches))
        scalars = {field.name: getattr(losses, field.name) for field in fields(losses)}
        passes.append({name: value.detach() for name, value in scalars.items() if value is not None})
        passes[-1]["loss"] = total.detach()
        B = len(batch)
        momentum_features.append((targets.image_candidates[:B], targets.text_candidates[:B]))

    grad_norm = accelerator.clip_grad_norm_(student.parameters(), clip_grad_norm)
    scalars = {name: torch.stack([one[name] for one in passes]).mean() for name in passes[0]}
    broken = ~(torch.isfinite(scalars["loss"]) & torch.isfinite(grad_norm))
    finite = accelerator.reduce(broken.float(), reduction="sum").item() == 0
    if finite:
        optimizer.step()
        for image_features, text_features in momentum_features:
            teacher.enqueue(accelerator.gather(image_features), accelerator.gather(text_features))
    optimizer.zero_grad()
    scalars |= {"grad_norm": grad_norm, "temperature": student.temperature.detach().clone()}
    return StepResult(scalars, finite)
