"""The student as it is trained: on one process or under DDP (PlainEngine), or by DeepSpeed (ZeroEngine).

Both do the same with the same methods; the training step does not know which it has.
"""

import copy
from contextlib import nullcontext

import torch
from accelerate import Accelerator
from torch import Tensor

from tcl.config.optim import OptimConfig
from tcl.data.batch import Batch, inputs_to
from tcl.losses.learned import LossParameter
from tcl.objectives.objective import Losses, Student, Targets
from tcl.training.full_weights import adamw_of, agree_on_buffers, full_weight, set_full_weight, start_moments
from tcl.training.optimiser import build_optimizer


class PlainEngine:
    """Weights whole on every process; gradients averaged by DDP where there are several."""

    def __init__(self, accelerator: Accelerator, student: Student, config: OptimConfig):
        self.accelerator = accelerator
        self.student = student
        self.device = accelerator.device
        self.clip_grad_norm = config.clip_grad_norm
        self.bf16 = accelerator.mixed_precision == "bf16"
        optimizer = build_optimizer(student.to(accelerator.device), config)
        self.module, prepared = accelerator.prepare(student, optimizer)
        self.optimizer = prepared.optimizer
        start_moments(self.optimizer)

    def learn(self, batch: Batch, targets: Targets, share: float, is_last: bool) -> Losses:
        """Forward and backward: adds `share` times the gradient of the weighted total to the gradients.

        is_last: of this optimiser step. Returns the losses, without gradient.
        """
        with nullcontext() if is_last else self.accelerator.no_sync(self.module):
            losses = self.module(batch, targets)
            (losses.total * share).backward()
        return _detached(losses)

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
        agree_on_buffers(self.student)
        return self.student

    def clamp_loss_parameters(self) -> dict[str, Tensor]:
        """Keep what the losses learn in its ranges; returns it by name, scalars without gradient."""
        return {
            name: getattr(self.student, name).detach().clamp_(*bounds).squeeze().clone()
            for name, bounds in self.student.loss_parameters.items()
        }


class ZeroEngine:
    """Optimiser state, gradients and weights sharded by DeepSpeed, as its configuration says (ZeRO stage 0 to 3)."""

    def __init__(self, accelerator: Accelerator, student: Student, config: OptimConfig):
        self.student = student
        self.device = accelerator.device
        self._initial = copy.deepcopy(student).requires_grad_(False).cpu()
        optimizer = build_optimizer(student.to(accelerator.device), config)
        self.module, prepared = accelerator.prepare(student, optimizer)
        self.optimizer = prepared.optimizer
        start_moments(self.optimizer)
        self.dtype = self.module.get_data_types()[0]
        self.bf16 = self.dtype == torch.bfloat16 or self.module.torch_autocast_enabled()
        for parameter, initial in zip(student.parameters(), self._initial.parameters(), strict=True):
            set_full_weight(parameter, initial)  # under bf16 the masters start as rounded copies

    def learn(self, batch: Batch, targets: Targets, share: float, is_last: bool) -> Losses:
        """As PlainEngine.learn."""
        self.module.set_gradient_accumulation_boundary(is_last)
        losses = self.module(inputs_to(batch, self.dtype), targets)
        self.module.backward(losses.total * share)
        return _detached(losses)

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
        whole = copy.deepcopy(self._initial).to(self.device)
        for own, parameter in zip(whole.parameters(), self.student.parameters(), strict=True):
            own.copy_(full_weight(parameter))
        agree_on_buffers(self.student)
        for own, buffer in zip(whole.buffers(), self.student.buffers(), strict=True):
            own.copy_(buffer)
        return whole

    def clamp_loss_parameters(self) -> dict[str, Tensor]:
        """As PlainEngine.clamp_loss_parameters."""
        return {name: self._clamp(name, bounds) for name, bounds in self.student.loss_parameters.items()}

    def _clamp(self, name: str, bounds: LossParameter) -> Tensor:
        parameter = getattr(self.student, name)
        value = full_weight(parameter).clone()
        clamped = value.clamp(*bounds)
        if value.item() != clamped.item():
            set_full_weight(parameter, clamped)
        return clamped.squeeze()


def _detached(losses: Losses) -> Losses:
    each, metrics = ({name: value.detach() for name, value in one.items()} for one in (losses.each, losses.metrics))
    return Losses(each, metrics, losses.total.detach())


Engine = PlainEngine | ZeroEngine


def build_engine(accelerator: Accelerator, student: Student, config: OptimConfig) -> Engine:
    """`student` ready to train on the accelerator's device."""
    sharded = accelerator.state.deepspeed_plugin is not None
    return (ZeroEngine if sharded else PlainEngine)(accelerator, student, config)
