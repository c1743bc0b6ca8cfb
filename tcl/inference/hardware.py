"""Where a loaded model runs, and in which precision."""

from dataclasses import dataclass
from typing import Literal

import torch

from tcl.errors import InputError
from tcl.precision import mixed_precision

Precision = Literal["auto", "bf16", "fp32"]
"""auto: bf16 autocast where the hardware multiplies bf16 fast, else fp32."""


@dataclass(frozen=True)
class Hardware:
    """A device, and whether its matrix products are bf16. Weights stay fp32."""

    device: torch.device
    bf16: bool

    def autocast(self) -> torch.autocast:
        """The context of a forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


def find_hardware(device: str | torch.device | None, precision: Precision) -> Hardware:
    """device None: the first GPU, or else the CPU. InputError: a device that is not there, an unknown precision."""
    if precision not in ("auto", "bf16", "fp32"):
        raise InputError(f"precision: {precision!r} is not possible; accepted: auto, bf16, fp32")
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.empty(0, device=device).device  # the way to learn whether it is there
    except Exception as error:  # torch raises whatever the backend raises, over many lines
        raise InputError(
            f"device: {str(device)!r} cannot be used ({str(error).splitlines()[0]}); give cpu, cuda or cuda:N"
        ) from error
    return Hardware(device, mixed_precision(precision, device) == "bf16")
