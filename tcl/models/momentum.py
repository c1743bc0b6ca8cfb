"""Momentum copies: networks that follow the trained ones slowly (He et al. 2020; ALBEF section 3.4).

They stand outside the module that DDP or DeepSpeed wraps: no gradients, no optimiser state, fp32 weights (in bf16 the
moving average would stop moving).
"""

import copy
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Networks = TypeVar("Networks", bound=nn.Module)


class Shared(nn.Module):
    """A frozen part of the student's networks inside the teacher's: the same module, which a copy would equal.

    It is the student's to save, to move and to keep in eval mode: here it has no parameters.
    """

    def __init__(self, part: nn.Module):
        super().__init__()
        self._part = (part,)  # a tuple hides it from nn.Module

    def forward(self, *arguments: Any, **options: Any) -> Any:
        """What the part gives."""
        return self._part[0](*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._part[0], name)


def frozen_parts(networks: nn.Module) -> list[nn.Module]:
    """What the encoders among `networks` say is never trained."""
    # Asked of the classes: for a module that lacks it, nn.Module looks in many places, and this is asked at each step.
    encoders = [module for module in networks.modules() if hasattr(type(module), "frozen_parts")]
    return [part for encoder in encoders for part in encoder.frozen_parts]


def momentum_copy(networks: Networks) -> Networks:
    """A copy without gradients, in which frozen parts are shared."""
    shared = {id(part): Shared(part) for part in frozen_parts(networks)}
    return copy.deepcopy(networks, shared).requires_grad_(False)


@torch.no_grad()
def follow(teacher: nn.Module, student: Iterable[list[Tensor]], momentum: float) -> None:
    """theta' <- m theta' + (1 - m) theta for every parameter, in fp32. Once per optimiser step.

    student: fp32 weights in the order of teacher.parameters(), some at a time (`full_weights`). momentum m, 0 to 1.
    """
    own = iter(teacher.parameters())
    for weights in student:
        torch._foreach_lerp_([next(own) for _ in weights], weights, 1 - momentum)
