"""How the layers of the trained networks are run: with which attention, recomputed in the backward pass, compiled."""

import torch
from torch import nn

from tcl.config.train import TrainConfig


def prepare_layers(networks: nn.Module, config: TrainConfig, device: torch.device, bf16: bool) -> None:
    """Choose for a student's `averaged` networks, in place, what config, device and precision ask for."""
    vit, bert = networks.image_encoder.vit, networks.text_encoder.bert
    if device.type == "cpu" and bf16:
        # The backward pass of torch's fused attention does not use a CPU's bf16 units: plain products take 0.6 of its
        # time (64 images of 257 tokens, 3 heads), at 25 MB more a layer.
        for module in vit.modules():
            if hasattr(module, "fused_attn"):  # not every kind of block keeps its attention under the same name
                module.fused_attn = False
    if config.activation_checkpointing:
        vit.set_grad_checkpointing(True)
        bert.activation_checkpointing_enable({"use_reentrant": False})
        networks.fusion_encoder.activation_checkpointing = True
    if config.compile:
        for layer in (*vit.blocks, *bert.encoder.layer, *networks.fusion_encoder.layers):
            layer.compile(dynamic=True)
