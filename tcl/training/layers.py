"""How the layers of the trained networks are run: with which attention, recomputed in the backward pass, compiled."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from tcl.config.train import TrainConfig
from tcl.encoders.lean_layers import keep_whole


@runtime_checkable
class Stack(Protocol):
    """A network whose time and memory are those of layers that are all alike."""

    @property
    def layers(self) -> Sequence[nn.Module]:
        """They."""

    def configure_layers(self, *, activation_checkpointing: bool, fused_attention: bool) -> None:
        """Compute them again in the backward pass? Use torch's fused attention?"""


def prepare_layers(networks: nn.Module, config: TrainConfig, device: torch.device, bf16: bool) -> None:
    """Choose for the stacks among the networks of a student, in place, what config, device and precision ask for.

    The backward pass of torch's fused attention does not use a CPU's bf16 units: plain products take 0.6 of its time
    (64 images of 257 tokens, 3 heads). Blocks whose attention is not timm's usual one (tcl.encoders.product_attention)
    take those that keep the weights, 25 MB a layer.
    """
    if config.activation_checkpointing:
        keep_whole(networks)
    for stack in networks.modules():
        if not isinstance(stack, Stack):
            continue
        stack.configure_layers(
            activation_checkpointing=config.activation_checkpointing,
            fused_attention=not (device.type == "cpu" and bf16),
        )
        if config.compile:
            for layer in stack.layers:
                layer.compile(dynamic=True)
