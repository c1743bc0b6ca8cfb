"""Which precision the forward passes run in on this hardware."""

import torch


def mixed_precision(precision: str, device: torch.device) -> str:
    """auto, bf16 or fp32 -> accelerate's name: 'bf16' (autocast) or 'no' (fp32)."""
    if precision == "auto":
        return "bf16" if multiplies_bf16_fast(device) else "no"
    return {"bf16": "bf16", "fp32": "no"}[precision]


def multiplies_bf16_fast(device: torch.device) -> bool:
    """True where bf16 products have their own instructions: elsewhere they are emulated, slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False
