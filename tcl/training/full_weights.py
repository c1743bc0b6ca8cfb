"""The student's weights and AdamW's moments as they are averaged and saved: whole and fp32, whoever holds what of them.

A parameter is whole and fp32 on one process, under DDP, and under DeepSpeed's ZeRO 0 to 2 without bf16. Under ZeRO 3
each process holds a piece; under DeepSpeed's bf16 the parameter is a rounded copy of an fp32 master in the optimiser.
What has to be fetched from other processes is fetched by all of them together: call these on every process.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional

from tcl.models.momentum import frozen_parts

MOMENTS = ("exp_avg", "exp_avg_sq")
"""AdamW's state of a parameter, beside the number of steps, which all parameters share."""


def full_weights(module: nn.Module) -> Iterator[list[Tensor]]:
    """The parameters of `module` in the order of parameters(), less its `frozen_parts`: all at once where they are
    there anyway, else one layer's at a time, so that no more than that is ever gathered."""
    frozen = {id(parameter) for part in frozen_parts(module) for parameter in part.parameters()}
    followed = [parameter for parameter in module.parameters() if id(parameter) not in frozen]
    if not any(_is_elsewhere(parameter) for parameter in followed):
        yield [parameter.detach() for parameter in followed]
        return
    for layer in module.modules():
        weights = [full_weight(one) for one in layer.parameters(recurse=False) if id(one) not in frozen]
        if weights:
            yield weights


@torch.no_grad()
def full_weight(parameter: nn.Parameter) -> Tensor:
    """`parameter`, whole and in fp32; not a copy where it is that already."""
    if not _is_elsewhere(parameter):
        return parameter.detach()
    if not _is_sharded(parameter):
        return parameter.detach().float()
    from deepspeed import utils, zero

    if parameter.requires_grad:
        return utils.safe_get_full_fp32_param(parameter)
    with zero.GatheredParameters([parameter], enabled=_is_partitioned(parameter)):  # frozen: it has no master
        return parameter.detach().float().clone()


@torch.no_grad()
def set_full_weight(parameter: nn.Parameter, value: Tensor) -> None:
    """Set `parameter`, and its fp32 master where it has one, to `value` (the same on every process)."""
    if not _is_sharded(parameter):
        parameter.copy_(value)
        return
    from deepspeed import utils, zero

    with zero.GatheredParameters([parameter], modifier_rank=0, enabled=_is_partitioned(parameter)):
        parameter.copy_(value)
    if _is_partitioned(parameter) and parameter.requires_grad:
        utils.safe_set_local_fp32_param(parameter, _own_piece(parameter, value.float()))
    elif parameter.requires_grad:
        utils.safe_set_full_fp32_param(parameter, value.float())


def saved_buffers(module: nn.Module) -> dict[str, Tensor]:
    """What of its state is no parameter, by name: running statistics of batch norms. Every process has all of it."""
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    return {name: value for name, value in module.state_dict().items() if name not in parameters}


@torch.no_grad()
def agree_on_buffers(module: nn.Module) -> None:
    """The mean over the processes of what batch norms saw, each of its own batches; nothing where there are none."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    for buffer in saved_buffers(module).values():
        if buffer.is_floating_point():
            distributed.all_reduce(buffer)
            buffer.div_(distributed.get_world_size())


def adamw_of(optimizer: torch.optim.Optimizer) -> torch.optim.AdamW:
    """The AdamW inside DeepSpeed's sharded optimiser, or `optimizer` itself."""
    while not isinstance(optimizer, torch.optim.AdamW):
        optimizer = optimizer.optimizer
    return optimizer


def start_moments(optimizer: torch.optim.Optimizer) -> None:
    """Give AdamW its state, zero, before the first step: all of it is there to be read and set from the start.

    DeepSpeed, which makes the connection at the first step, loses it for all groups of parameters but one.
    """
    adamw = adamw_of(optimizer)
    # DeepSpeed's optimisers step on flat pieces of their own, which ZeRO 3 hands to AdamW only while it steps.
    pieces = getattr(optimizer, "fp32_partitioned_groups_flat", None)
    for parameter in pieces or [p for group in adamw.param_groups for p in group["params"]]:
        adamw.state[parameter] = {
            "step": torch.zeros((), device=parameter.device),
            **{key: torch.zeros_like(parameter) for key in MOMENTS},
        }
    if hasattr(optimizer, "_lazy_init_hp_params_optimizer_state"):  # ZeRO 1 and 2: parameters find their pieces
        optimizer._lazy_init_hp_params_optimizer_state()


def steps_taken(optimizer: torch.optim.Optimizer) -> int:
    """How many steps AdamW took (a step that was skipped is none), since `start_moments`."""
    return max(int(state["step"]) for state in adamw_of(optimizer).state.values())


def set_steps_taken(optimizer: torch.optim.Optimizer, steps: int) -> None:
    """After `start_moments`; steps >= 0."""
    for state in adamw_of(optimizer).state.values():
        state["step"].fill_(steps)


def full_moments(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, Tensor]:
    """AdamW's moments of a trained `parameter`, whole."""
    if not _is_sharded(parameter):
        return {key: optimizer.state[parameter][key] for key in MOMENTS}
    from deepspeed.utils import safe_get_full_optimizer_state

    return {key: safe_get_full_optimizer_state(parameter, key) for key in MOMENTS}


@torch.no_grad()
def set_full_moments(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, moments: dict[str, Tensor]) -> None:
    """Set AdamW's moments of `parameter` (the same on every process), after `start_moments`."""
    if not _is_sharded(parameter):
        for key in MOMENTS:
            optimizer.state[parameter][key].copy_(moments[key])
        return
    from deepspeed import utils

    for key in MOMENTS:
        value = moments[key].to(parameter.device)
        if _is_partitioned(parameter):
            utils.safe_set_local_optimizer_state(parameter, _own_piece(parameter, value), key)
        else:
            utils.safe_set_full_optimizer_state(parameter, value, key)


def _own_piece(parameter: nn.Parameter, value: Tensor) -> Tensor:
    """This process' piece of a whole `value` under ZeRO 3; the last piece is padded (DeepSpeed's own setter is not)."""
    size = parameter.ds_tensor.numel()
    rank, processes = distributed.get_rank(), distributed.get_world_size()
    padded = functional.pad(value.flatten(), (0, size * processes - value.numel()))
    return padded[rank * size : (rank + 1) * size]


def _is_elsewhere(parameter: nn.Parameter) -> bool:
    return _is_partitioned(parameter) or parameter.dtype != torch.float32


def _is_sharded(parameter: nn.Parameter) -> bool:
    """Does DeepSpeed keep a master of it, in pieces?"""
    return _is_partitioned(parameter) or hasattr(parameter, "_hp_mapping")


def _is_partitioned(parameter: nn.Parameter) -> bool:
    """Is the parameter itself in pieces (ZeRO 3)?"""
    return hasattr(parameter, "ds_id")
