"""The student as it is trained: on one process or under DDP (PlainEngine), or by DeepSpeed (ZeroEngine).

Both do the same with the same methods; the training step does not know which it has.
"""

import copy
from contextlib import nullcontext
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from tcl.config.optim import OptimConfig
from tcl.data.batch import AnyBatch, images_to
from tcl.objectives.tcl import TEMPERATURE_RANGE
from tcl.tasks.task import Student, Targets
from tcl.training.full_weights import adamw_of, full_weight, set_full_weight, start_moments
from tcl.training.optim import build_optimizer


class PlainEngine:
    """Weights whole on every process; gradients averaged by DDP where there are several."""

    def __init__(self, accelerator: Accelerator, student: Student, config: OptimConfig):
        self.accelerator = accelerator
        self.student = student
        self.clip_grad_norm = config.clip_grad_norm
        self.bf16 = accelerator.mixed_precision == "bf16"
        optimizer = build_optimizer(student.to(accelerator.device), config)
        self.module, prepared = accelerator.prepare(student, optimizer)
        self.optimizer = prepared.optimizer
        start_moments(self.optimizer)

    def learn(self, batch: AnyBatch, targets: Targets, share: float, is_last: bool) -> tuple[NamedTuple, Tensor]:
        """Forward and backward: adds `share` times the gradient of the weighted total to the gradients.

        is_last: of this optimiser step. Returns the losses and their weighted total.
        """
        with nullcontext() if is_last else self.accelerator.no_sync(self.module):
            losses = self.module(batch, targets)
            total = losses.total(self.student.objective)
            (total * share).backward()
        return losses, total.detach()

    def step(self, is_finite: Tensor) -> tuple[Tensor, bool]:
        """Clip, step, forget the gradients -> (gradient norm before clipping, stepped).

        is_finite: bool scalar, are this process' losses? No step where some process' losses or gradients are not.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.student.parameters(), self.clip_grad_norm)
        broken = ~(is_finite & torch.isfinite(norm))
        stepped = self.accelerator.reduce(broken.float(), reduction="sum").item() == 0
        if stepped:
            self.optimizer.step()
        self.optimizer.zero_grad()
        return norm, stepped

    def whole_student(self) -> Student:
        """A module with the student's weights that any process can call alone, for evaluation."""
        return self.student

    def clamp_temperature(self) -> Tensor | None:
        """Keep the learned temperature in its range; returns it, a scalar without gradient. None: it has none."""
        if self.student.temperature is None:
            return None
        return self.student.temperature.detach().clamp_(*TEMPERATURE_RANGE).squeeze().clone()


class ZeroEngine:
    """Optimiser state, gradients and weights sharded by DeepSpeed, as its configuration says (ZeRO stage 0 to 3)."""

    def __init__(self, accelerator: Accelerator, student: Student, config: OptimConfig):
        self.student = student
        self._initial = copy.deepcopy(student).requires_grad_(False).cpu()
        optimizer = build_optimizer(student.to(accelerator.device), config)
        self.module, prepared = accelerator.prepare(student, optimizer)
        self.optimizer = prepared.optimizer
        start_moments(self.optimizer)
        self.dtype = self.module.get_data_types()[0]
        self.bf16 = self.dtype == torch.bfloat16 or self.module.torch_autocast_enabled()
        for parameter, initial in zip(student.parameters(), self._initial.parameters(), strict=True):
            set_full_weight(parameter, initial)  # under bf16 the masters start as rounded copies

    def learn(self, batch: AnyBatch, targets: Targets, share: float, is_last: bool) -> tuple[NamedTuple, Tensor]:
        """As PlainEngine.learn."""
        self.module.set_gradient_accumulation_boundary(is_last)
        losses = self.module(images_to(batch, self.dtype), targets)
        total = losses.total(self.student.objective)
        self.module.backward(total * share)
        return losses, total.detach()

    def step(self, is_finite: Tensor) -> tuple[Tensor, bool]:
        """As PlainEngine.step. DeepSpeed clips, and skips a step whose gradients are not finite on some process.

        Losses that are not finite have such gradients.
        """
        if self.optimizer is adamw_of(self.optimizer):  # ZeRO 0 in fp32 is the one stage that would not skip
            norm = torch.nn.utils.get_total_norm([p.grad for p in self.student.parameters() if p.grad is not None])
            if not torch.isfinite(norm):
                self.module.zero_grad()
                return norm, False
            self.module.step()
            return norm, True
        self.module.step()
        norm = torch.as_tensor(float(self.module.get_global_grad_norm()), device=is_finite.device)
        return norm, self.module.was_step_applied()

    def whole_student(self) -> Student:
        """As PlainEngine.whole_student: a copy in fp32, gathered by all processes together."""
        whole = copy.deepcopy(self._initial).to(self.module.device)
        for own, parameter in zip(whole.parameters(), self.student.parameters(), strict=True):
            own.copy_(full_weight(parameter))
        return whole

    def clamp_temperature(self) -> Tensor | None:
        """As PlainEngine.clamp_temperature."""
        if self.student.temperature is None:
            return None
        temperature = full_weight(self.student.temperature).clone()
        clamped = temperature.clamp(*TEMPERATURE_RANGE)
        if temperature.item() != clamped.item():
            set_full_weight(self.student.temperature, clamped)
        return clamped.squeeze()


Engine = PlainEngine | ZeroEngine


def build_engine(accelerator: Accelerator, student: Student, config: OptimConfig) -> Engine:
    """`student` ready to train on the accelerator's device."""
    sharded = accelerator.state.deepspeed_plugin is not None
    return (ZeroEngine if sharded else PlainEngine)(accelerator, student, config)
